// SPDX-License-Identifier: Apache-2.0
// The second pass of a variance, and its gradient, in chunks like sums (sum.h).
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"

namespace moxie {

// Sum of (x - mean)^2 over the middle of x [outer, n, inner] by chunks, mean [outer, inner] -> y [outer, chunks, inner]
template <class T> struct ChunkSquares {
  using V = Accumulator<T>;
  const T* x;
  const V* mean;
  V* y;
  int64_t n, inner, chunk, chunks;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t outer = row / chunks, first = row % chunks * chunk, last = first + chunk < n ? first + chunk : n;
    const int64_t cols = inner;
    const T* in = x + (outer * n + first) * cols;
    const V* center = mean + outer * cols;
    V* out = y + row * cols;
    if (cols == 1) {
      const V middle = center[0];
      const V total = team.sum(last - first, [=](int64_t i) {
        const V deviation = V(in[i]) - middle;
        return deviation * deviation;
      });
      team.once([=] { out[0] = total; });
      return;
    }
    team.each(cols, [=](int64_t i) { out[i] = V(0); });
    for (int64_t k = 0; k < last - first; ++k) {
      const T* line = in + k * cols;
      team.each(cols, [=](int64_t i) {
        const V deviation = V(line[i]) - center[i];
        out[i] += deviation * deviation;
      });
    }
  }
};

// dx = dy (x - mean) 2 / (n - correction) for the variance; for its root y that divided by 2 y, 0 where y = 0. `root`
// is null for the variance itself. For inner = 1 a row is `chunk` of the n, otherwise one of them.
template <class T> struct VarianceBackward {
  using V = Accumulator<T>;
  const T* x;
  const V* mean;
  const V* root;
  const T* dy;
  T* dx;
  int64_t n, inner, chunk, chunks;
  V scale;  // 2 / (n - correction)
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t outer = row / chunks, first = row % chunks * chunk, last = first + chunk < n ? first + chunk : n;
    const int64_t cols = inner == 1 ? last - first : inner;
    const T *in = x + (outer * n + first) * inner, *g = dy + outer * inner;
    const V *center = mean + outer * inner, *deviation = root == nullptr ? nullptr : root + outer * inner;
    T* out = dx + (outer * n + first) * inner;
    const V factor = scale;
    const bool one_line = inner == 1;
    const auto slope = [=](int64_t i) {
      if (deviation == nullptr) return factor * V(g[i]);
      return deviation[i] == V(0) ? V(0) : factor * V(g[i]) / (V(2) * deviation[i]);
    };
    branch(accumulate, [=](auto add) {
      if (one_line) {
        const V one_slope = slope(0), middle = center[0];
        team.each(cols, [=](int64_t i) { store(out[i], one_slope * (V(in[i]) - middle), add); });
      } else {
        team.each(cols, [=](int64_t i) { store(out[i], slope(i) * (V(in[i]) - center[i]), add); });
      }
    });
  }
};

}  // namespace moxie
