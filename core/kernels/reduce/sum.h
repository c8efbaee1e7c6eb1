// SPDX-License-Identifier: Apache-2.0
// Sums in chunks that the shape alone fixes, so that the order of additions never depends on the number of threads.
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/reduce/lines.h"

namespace moxie {

// Sum over the middle of x [outer, n, inner] by chunks -> y [outer, chunks, inner]; y is in the accumulator's type.
template <class T> struct ChunkSum {
  const T* x;
  Accumulator<T>* y;
  int64_t n, inner, chunk, chunks;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row % chunks * chunk, last = first + chunk < n ? first + chunk : n;
    const int64_t cols = inner;
    const T* in = x + (row / chunks * n + first) * cols;
    V* out = y + row * cols;
    if (cols == 1) {
      const V total = team.sum(last - first, [=](int64_t i) { return V(in[i]); });
      team.once([=] { out[0] = total; });
      return;
    }
    sum_lines(team, last - first, cols, out, [=](int64_t k) {
      const T* line = in + k * cols;
      return [=](int64_t i) { return V(line[i]); };
    });
  }
};

// dx [outer, n, inner] (+)= scale dy [outer, 1, inner]. For inner = 1 a row is `chunk` of the n, otherwise one of them.
template <class T> struct Expand {
  const T* dy;
  T* dx;
  int64_t n, inner, chunk, chunks;
  Accumulator<T> scale;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row % chunks * chunk, last = first + chunk < n ? first + chunk : n;
    const int64_t cols = inner == 1 ? last - first : inner;
    const T* g = dy + row / chunks * inner;
    T* out = dx + (row / chunks * n + first) * inner;
    const V factor = scale;
    const bool one_value = inner == 1;
    branch(accumulate, [=](auto add) {
      if (one_value) {
        const V value = factor * V(g[0]);
        store_each(team, cols, out, add, [=](int64_t) { return value; });
      } else {
        store_each(team, cols, out, add, [=](int64_t i) { return factor * V(g[i]); });
      }
    });
  }
};

}  // namespace moxie
