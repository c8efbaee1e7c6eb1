// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y (+)= scale x + shift
template <class T> struct Affine {
  const T* x;
  T* y;
  Accumulator<T> scale, shift;
  int64_t numel;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T* in = x + row * elementwise_row;
    T* out = y + row * elementwise_row;
    const V factor = scale, offset = shift;
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate,
           [=](auto add) { store_each(team, n, out, add, [=](int64_t i) { return factor * V(in[i]) + offset; }); });
  }
};

}  // namespace moxie
