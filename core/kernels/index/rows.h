// SPDX-License-Identifier: Apache-2.0
// Kernels that move whole rows by an index.
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y[row] = x[index[row]]
template <class T> struct GatherRows {
  const T* x;
  const int32_t* index;
  T* y;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + index[row] * cols;
    T* out = y + row * cols;
    team.each(
        cols, [=](int64_t i) { return in[i]; }, [=](int64_t i, T value) { out[i] = value; });
  }
};

// y[row] (+)= sum of x[order[place]] over the places [offsets[row], offsets[row + 1]): the transpose of GatherRows,
// without atomics because the sources are sorted by destination.
template <class From, class T> struct SegmentSum {
  const From* x;
  const int32_t* offsets;
  const int32_t* order;
  T* y;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    T* out = y + row * cols;
    if (!accumulate) team.each(cols, [=](int64_t i) { out[i] = static_cast<T>(V(0)); });
    for (int32_t place = offsets[row]; place < offsets[row + 1]; ++place) {
      const From* in = x + order[place] * cols;
      store_each(team, cols, out, true, [=](int64_t i) { return static_cast<Accumulator<From>>(in[i]); });
    }
  }
};

}  // namespace moxie
