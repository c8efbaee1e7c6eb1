// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"

namespace moxie {

// y = |x| + offset of a row
template <class T> struct L2Norm {
  const T* x;
  T* y;
  int64_t cols;
  Accumulator<T> offset;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T* in = x + row * cols;
    T* out = y + row;
    const V squares = team.sum(cols, [=](int64_t i) { return V(in[i]) * V(in[i]); });
    const V shift = offset;
    team.once([=] { *out = static_cast<T>(math::sqrt(squares) + shift); });
  }
};

// dx = dy x / |x|; 0 where |x| = 0
template <class T> struct L2NormBackward {
  const T* x;
  const T* dy;
  T* dx;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T* in = x + row * cols;
    T* out = dx + row * cols;
    const V squares = team.sum(cols, [=](int64_t i) { return V(in[i]) * V(in[i]); });
    const V scale = squares == V(0) ? V(0) : V(dy[row]) / math::sqrt(squares);
    const int64_t n = cols;
    branch(accumulate, [=](auto add) { store_each(team, n, out, add, [=](int64_t i) { return scale * V(in[i]); }); });
  }
};

}  // namespace moxie
