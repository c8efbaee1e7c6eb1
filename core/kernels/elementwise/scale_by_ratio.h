// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y (+)= factor / divisor x, both of them numbers in memory
template <class From, class T> struct ScaleByRatio {
  using V = Accumulator<T>;
  const From* x;
  const V* factor;
  const V* divisor;
  T* y;
  int64_t numel;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const From* in = x + row * elementwise_row;
    T* out = y + row * elementwise_row;
    const V scale = *factor / *divisor;
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate, [=](auto add) {
      team.each(n,
                [=](int64_t i) { store(out[i], scale * static_cast<V>(static_cast<Accumulator<From>>(in[i])), add); });
    });
  }
};

}  // namespace moxie
