// SPDX-License-Identifier: Apache-2.0
// Functions of one float against references in double, over all bit patterns.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace moxie::testing {

// How far `got` is from `expected` in units in the last place of float; inf counts as 2^128.
inline double ulps_between(float got, double expected) {
  constexpr double beyond = 0x1p128;
  const double g = std::isinf(got) ? std::copysign(beyond, got) : static_cast<double>(got);
  const double e = std::clamp(expected, -beyond, beyond);
  const int exponent = e == 0 ? -126 : std::clamp(std::ilogb(e), -126, 127);
  return std::abs(g - e) / std::ldexp(1.0, exponent - 23);
}

struct Worst {
  double ulps = 0;
  float at = 0;
  int64_t wrong_nan = 0;
};

// The worst error over every `step`-th bit pattern in [first, last]; the function runs in a vector loop, as in kernels.
template <class Function, class Reference>
Worst worst_over_bits(Function function, Reference reference, uint32_t first, uint32_t last, uint32_t step) {
  constexpr uint64_t chunk = 1024;
  std::vector<float> x(chunk), y(chunk);
  Worst worst;
  for (uint64_t begin = first; begin <= last; begin += chunk * step) {
    for (uint64_t i = 0; i < chunk; ++i) {
      x[i] = std::bit_cast<float>(static_cast<uint32_t>(std::min<uint64_t>(begin + i * step, last)));
    }
    const float* in = x.data();
    float* out = y.data();
#pragma omp simd
    for (uint64_t i = 0; i < chunk; ++i) out[i] = function(in[i]);
    for (uint64_t i = 0; i < chunk; ++i) {
      const double expected = reference(static_cast<double>(x[i]));
      if (std::isnan(expected) || std::isnan(y[i])) {
        worst.wrong_nan += std::isnan(expected) != std::isnan(y[i]);
        continue;
      }
      // A unit in the last place is at least 2^-24 of the value: most errors can't be the worst, and the rest costs
      // time.
      if (std::abs(static_cast<double>(y[i]) - expected) <= worst.ulps * 0x1p-24 * std::abs(expected)) continue;
      const double ulps = ulps_between(y[i], expected);
      if (ulps > worst.ulps) worst = {ulps, x[i], worst.wrong_nan};
    }
  }
  return worst;
}

template <class Function, class Reference>
void check_accuracy(const char* name, double bound, Function function, Reference reference) {
  const Worst everywhere = worst_over_bits(function, reference, 0u, 0xFFFFFFFFu, 1009);
  // densely where results are neither saturated nor linear: 1/16 to 16 and its mirror image
  const Worst positive = worst_over_bits(function, reference, 0x3D800000u, 0x41800000u, 61);
  const Worst negative = worst_over_bits(function, reference, 0xBD800000u, 0xC1800000u, 61);
  for (const Worst& worst : {everywhere, positive, negative}) {
    CAPTURE(name);
    CAPTURE(worst.at);
    CHECK(worst.ulps <= bound);
    CHECK(worst.wrong_nan == 0);
  }
}

}  // namespace moxie::testing
