// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y[o, i, j] = x[o, index[o, i, j], j] for x [outer, n, inner] and index [outer, count, inner]; a row is one o.
template <class T> struct Gather {
  const T* x;
  const int32_t* index;
  T* y;
  int64_t n, count, inner;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * n * inner;
    const int64_t cols = inner;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t* at = index + (row * count + i) * cols;
      T* out = y + (row * count + i) * cols;
      team.each(cols, [=](int64_t j) { out[j] = in[at[j] * cols + j]; });
    }
  }
};

// dx[o, index[o, i, j], j] += dy[o, i, j]. Each column j belongs to one member, so repeated indices add up in order.
template <class T> struct GatherBackward {
  const int32_t* index;
  const T* dy;
  T* dx;
  int64_t n, count, inner;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    T* out = dx + row * n * inner;
    const int64_t cols = inner;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t* at = index + (row * count + i) * cols;
      const T* g = dy + (row * count + i) * cols;
      team.each(cols, [=](int64_t j) {
        T& place = out[at[j] * cols + j];
        place = static_cast<T>(V(place) + V(g[j]));
      });
    }
  }
};

}  // namespace moxie
