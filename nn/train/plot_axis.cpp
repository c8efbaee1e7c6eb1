// SPDX-License-Identifier: Apache-2.0
#include "nn/train/plot_axis.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "core/check.h"

namespace moxie::train {
namespace {

constexpr double largest = 1e300;  // magnitudes above would overflow in the arithmetic of axes
constexpr const char* minus = "\u2212";

bool can_show(double value, bool logarithmic) {
  return std::abs(value) <= largest && (!logarithmic || value >= 1 / largest);
}

// "1.50" -> "1.5", "2.0" -> "2"
std::string without_trailing_zeros(std::string text) {
  if (text.find('.') == text.npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

// Decimals that show multiples of the step: 1 for 0.5, 2 for 0.25, but at most two more than its first digit needs.
int decimals(double step) {
  const int first = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 15);
  for (int count = first; count <= first + 2; ++count) {
    const double scaled = step * std::pow(10.0, count);
    if (std::abs(scaled - std::round(scaled)) <= 1e-6 * scaled) return count;
  }
  return first + 2;
}

std::string power_of_ten(int exponent) {
  constexpr std::string_view digits[] = {"\u2070", "\u00B9", "\u00B2", "\u00B3", "\u2074",
                                         "\u2075", "\u2076", "\u2077", "\u2078", "\u2079"};
  std::string text = exponent < 0 ? "10\u207B" : "10";
  for (const char c : std::to_string(std::abs(exponent))) text += digits[c - '0'];
  return text;
}

std::vector<Tick> linear_ticks(const Range& range, int count) {
  const double span = range.high - range.low, step = nice_step(span, count);
  std::vector<Tick> result;
  const double first = std::ceil(range.low / step - 1e-9), last = std::floor(range.high / step + 1e-9);
  for (double i = first; i <= last && result.size() < 1000; ++i) {
    const double value = i * step;
    if (!result.empty() && value <= result.back().value) break;  // the step is below the precision of the values
    result.push_back({value, format_tick(value, step)});
  }
  return result;
}

std::vector<Tick> logarithmic_ticks(const Range& range, int count) {
  const double low = std::log10(range.low), high = std::log10(range.high);
  // 10^i * m within the range, with rounding to spare at the ends
  const auto inside = [&](double value) { return value >= range.low * (1 - 1e-9) && value <= range.high * (1 + 1e-9); };
  const int first = static_cast<int>(std::floor(low + 1e-9)), last = static_cast<int>(std::ceil(high - 1e-9));
  int decades = 0;
  for (int e = first; e <= last; ++e) decades += inside(std::pow(10.0, e));
  if (decades < 2) {  // too short for powers of ten: 1, 2 and 5 times them, or linear ticks
    int marks = 0;
    for (int e = first; e <= last; ++e) {
      for (const double m : {1.0, 2.0, 5.0}) marks += inside(m * std::pow(10.0, e));
    }
    if (marks < 3) return linear_ticks(range, count);
  }
  const int every = std::max(1, static_cast<int>(std::ceil(static_cast<double>(decades) / std::max(count, 1))));
  const bool between = 3 * decades <= count || decades < 2;  // room to label 2 and 5 as well
  const bool powers = range.low < 0.9e-3 || range.high > 1e15;
  std::vector<Tick> result;
  for (int e = first; e <= last; ++e) {
    const double decade = std::pow(10.0, e);
    for (int m = 1; m <= 9; ++m) {
      if (const double value = m * decade; inside(value)) {
        const bool labelled = m == 1 ? e % every == 0 : between && (m == 2 || m == 5);
        if (!labelled && every > 1 && m > 1) continue;
        std::string label;
        if (labelled) {
          label = !powers ? format_tick(value, value) : (m == 1 ? "" : std::to_string(m) + "\u00B7") + power_of_ten(e);
        }
        result.push_back({value, label, !labelled});
      }
    }
  }
  return result;
}

}  // namespace

double Axis::position(double value) const {
  if (!can_show(value, logarithmic)) return std::numeric_limits<double>::quiet_NaN();
  if (!logarithmic) return (value - range.low) / (range.high - range.low);
  const double low = std::log10(range.low);
  return (std::log10(value) - low) / (std::log10(range.high) - low);
}

double nice_step(double span, int count) {
  check(span > 0 && count > 0, "nice_step: span and count must be positive, got {} and {}", span, count);
  const double rough = span / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::vector<Tick> ticks(const Axis& axis, int count) {
  count = std::max(count, 1);
  return axis.logarithmic ? logarithmic_ticks(axis.range, count) : linear_ticks(axis.range, count);
}

std::string format_tick(double value, double step) {
  const double magnitude = std::abs(value);
  if (magnitude < 0.501 * step || magnitude == 0) return "0";
  const std::string sign = value < 0 ? minus : "";
  if ((step < 0.9e-3 && magnitude < 0.00999) || magnitude >= 1e15) {
    const int exponent = static_cast<int>(std::floor(std::log10(magnitude) + 1e-9));
    const int digits = std::clamp(exponent - static_cast<int>(std::floor(std::log10(step) + 1e-9)), 0, 15);
    return sign + without_trailing_zeros(fmt::format("{:.{}f}", magnitude / std::pow(10.0, exponent), digits)) + "e" +
           (exponent < 0 ? minus : "") + std::to_string(std::abs(exponent));
  }
  struct Unit {
    double size;
    const char* name;
  };
  for (const Unit unit : {Unit{1e12, "T"}, Unit{1e9, "G"}, Unit{1e6, "M"}, Unit{1e3, "k"}}) {
    if (magnitude >= unit.size * (1 - 1e-9)) {
      if (step < unit.size / 100) break;  // 1.0001M says less than 1000100
      return sign + without_trailing_zeros(fmt::format("{:.{}f}", magnitude / unit.size, decimals(step / unit.size))) +
             unit.name;
    }
  }
  return sign + fmt::format("{:.{}f}", magnitude, decimals(step));
}

Axis make_axis(std::span<const double> values, bool logarithmic, const std::optional<Range>& range, double margin,
               const char* name) {
  if (range) {
    check(range->low < range->high && can_show(range->low, logarithmic) && can_show(range->high, logarithmic),
          "{}: low must be below high, both finite{}, got {} .. {}", name, logarithmic ? " and positive" : "",
          range->low, range->high);
    return {*range, logarithmic};
  }
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double value : values) {
    if (can_show(value, logarithmic)) low = std::min(low, value), high = std::max(high, value);
  }
  if (low > high) return {logarithmic ? Range{1, 10} : Range{0, 1}, logarithmic};
  if (logarithmic) {
    low = std::log10(low), high = std::log10(high);
    if (high - low < 1e-6) low -= 0.3, high += 0.3;
    const double pad = std::min(margin * (high - low), 5.0);  // never beyond what numbers can say
    return {{std::pow(10.0, low - pad), std::pow(10.0, high + pad)}, true};
  }
  const double size = std::max(std::abs(low), std::abs(high));
  if (high - low <= 1e-9 * size || high - low < 1e-290) {  // all the same: some room around
    const double room = size > 1e-290 ? 0.1 * size : 1;
    low -= room, high += room;
  }
  const double pad = margin * (high - low);
  return {{low - pad, high + pad}, false};
}

}  // namespace moxie::train
