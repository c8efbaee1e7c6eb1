// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/random/mask.h"

namespace moxie {

// The probability that an element is dropped: p rounded to a multiple of 2^-16, below 1.
struct DropoutThreshold {
  uint32_t bits;
  explicit DropoutThreshold(double p) : bits(static_cast<uint32_t>(math::min(p * 65536 + 0.5, 65535.0))) {}
  double scale() const { return 65536.0 / (65536.0 - bits); }
};

// y (+)= scale x where the element's 16 random bits are not below the threshold, else 0. With scale = 1 / (1 -
// threshold / 2^16) the expectation is x. Its own backward: the key draws the mask again.
template <class T> struct Dropout {
  const T* x;
  T* y;
  int64_t numel;
  uint32_t threshold;
  Accumulator<T> scale;
  RandomKey key;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row * elementwise_row;
    const T* in = x + first;
    T* out = y + first;
    const uint32_t limit = threshold;
    const V factor = scale;
    const RandomKey drawn = key.resolved();
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate, [=](auto add) {
      each_mask(
          team, drawn, static_cast<uint64_t>(first), n,
          [=](int64_t i, uint32_t bits) {
            // Loaded in any case: loads under a mask come from memory at half the speed.
            const V kept = V(in[i]) * factor, value = bits >= limit ? kept : V(0);
            return add ? static_cast<V>(V(out[i]) + value) : value;
          },
          [=](int64_t i, V value) { out[i] = static_cast<T>(value); });
    });
  }
};

}  // namespace moxie
