// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/philox.h"

namespace moxie {

// y (+)= x / (1 - p) where uniform(key, i) >= p, else 0. Its own backward: the mask is drawn again from the key.
template <class T> struct Dropout {
  const T* x;
  T* y;
  int64_t numel;
  float p;
  RandomKey key;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row * elementwise_row;
    const T* in = x + first;
    T* out = y + first;
    const float threshold = p;
    const V scale = V(1) / (V(1) - V(p));
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate, [=, this](auto add) {
      each_uniform(team, key, static_cast<uint64_t>(first), n,
                   [=](int64_t i, float u) { store(out[i], u >= threshold ? V(in[i]) * scale : V(0), add); });
    });
  }
};

}  // namespace moxie
