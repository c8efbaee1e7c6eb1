// SPDX-License-Identifier: Apache-2.0
// Kernels that move whole rows by an index.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/team.h"

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
    if constexpr (!std::is_same_v<Team, SerialTeam>) return in_registers(team, row, out);
    if (!accumulate) team.each(cols, [=](int64_t i) { out[i] = static_cast<T>(V(0)); });
    for (int32_t place = offsets[row]; place < offsets[row + 1]; ++place) {
      const From* in = x + order[place] * cols;
      store_each(team, cols, out, true, [=](int64_t i) { return static_cast<Accumulator<From>>(in[i]); });
    }
  }

  // For a GPU's threads: each goes down its own columns, and rounds once.
  template <class Team> MOXIE_FN void in_registers(Team team, int64_t row, T* out) const {
    using V = Accumulator<T>;
    const From* from = x;
    const int32_t* places = order;
    const int32_t first = offsets[row], last = offsets[row + 1];
    const int64_t n = cols;
    const bool add = accumulate;
    team.each(n, [=](int64_t i) {
      V total = add ? V(out[i]) : V(0);
#ifdef __CUDACC__
#pragma unroll 8
#endif
      for (int32_t place = first; place < last; ++place)
        total += static_cast<V>(Accumulator<From>(from[places[place] * n + i]));
      out[i] = static_cast<T>(total);
    });
  }
};

}  // namespace moxie
