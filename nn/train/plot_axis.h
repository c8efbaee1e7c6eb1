// SPDX-License-Identifier: Apache-2.0
// Number lines of plots: which values get a tick, and how they are written.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace moxie::train {

// The values that an axis shows, low < high.
struct Range {
  double low = 0, high = 1;
};

// A range of values on a linear or logarithmic line.
struct Axis {
  Range range;
  bool logarithmic = false;

  // Where a value lies: 0 at the low end, 1 at the high end. NaN for what cannot be shown: NaN, infinity, magnitudes
  // above 1e300 and, on a logarithmic axis, values below 1e-300, so all that are not positive.
  double position(double value) const;
};

// A labelled value, or an unlabelled one between (minor, on logarithmic axes only).
struct Tick {
  double value = 0;
  std::string label;
  bool minor = false;
};

// The distance of ticks, 1, 2 or 5 times a power of ten, that cuts a span into at most `count` pieces. Throws
// std::invalid_argument unless span and count are positive.
double nice_step(double span, int count);

// Ticks of an axis, at most about `count` labelled ones, in ascending order.
std::vector<Tick> ticks(const Axis& axis, int count);

// Writes a value with the decimals that multiples of `step` need, and k, M, G or T from a thousand on: 0.25, 1.5k, 10M;
// where that would take many digits as 3e-4. Negative ones get a true minus sign.
std::string format_tick(double value, double step);

// The axis that shows all values that can be shown, with `margin` as a share of the span on both sides; 0 .. 1 (1 .. 10
// if logarithmic) where there is none. A given range is kept; throws std::invalid_argument with `name` where it is not
// low < high, finite, and positive on a logarithmic axis.
Axis make_axis(std::span<const double> values, bool logarithmic, const std::optional<Range>& range, double margin,
               const char* name);

}  // namespace moxie::train
