// SPDX-License-Identifier: Apache-2.0
// RMSNorm (Zhang & Sennrich 2019): y = x r w with r = 1 / sqrt(mean(x^2) + epsilon). Statistics, weight and its
// gradient are in the accumulator's type.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/reduce/lines.h"
#include "core/math.h"

namespace moxie {

template <class T> struct RmsNorm {
  using V = Accumulator<T>;
  const T* x;
  const V* weight;
  T* y;
  V* rstd;
  int64_t cols;
  V epsilon;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    const V* w = weight;
    T* out = y + row * cols;
    V* r = rstd + row;
    const V squares = team.sum(cols, [=](int64_t i) { return V(in[i]) * V(in[i]); });
    const V scale = V(1) / math::sqrt(squares / V(cols) + epsilon);
    store_each(team, cols, out, false, [=](int64_t i) { return V(in[i]) * scale * w[i]; });
    team.once([=] { *r = scale; });
  }
};

// The residual sum and its norm in one pass: sum = x + branch, y = sum r w. sum may be branch.
template <class T> struct AddRmsNorm {
  using V = Accumulator<T>;
  const T *x, *branch;
  const V* weight;
  T *sum, *y;
  V* rstd;
  int64_t cols;
  V epsilon;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *in = x + row * cols, *more = branch + row * cols;
    const V* w = weight;
    T *total = sum + row * cols, *out = y + row * cols;
    V* r = rstd + row;
    const V squares = team.sum(cols, [=](int64_t i) {
      const V value = V(T(V(in[i]) + V(more[i])));  // as it is stored, so that y belongs to it
      assign(total[i], value);
      return value * value;
    });
    const V scale = V(1) / math::sqrt(squares / V(cols) + epsilon);
    team.sync();
    team.each(cols, [=](int64_t i) { assign(out[i], V(total[i]) * scale * w[i]); });
    team.once([=] { *r = scale; });
  }
};

// dx = added + r (g - n mean(g n)) with g = dy w and n = x r. `added`, which may be dx itself, is a gradient that x has
// from elsewhere; null where there is none.
template <class T> struct RmsNormBackward {
  using V = Accumulator<T>;
  const T* x;
  const V* weight;
  const V* rstd;
  const T *dy, *added;
  T* dx;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *in = x + row * cols, *g = dy + row * cols, *more = added ? added + row * cols : nullptr;
    const V* w = weight;
    T* out = dx + row * cols;
    const V r = rstd[row];
    const V dot = team.sum(cols, [=](int64_t i) { return V(g[i]) * w[i] * V(in[i]); });
    const V pull = dot * r * r / V(cols);
    const int64_t n = cols;
    branch(added != nullptr, [=](auto add) {
      store_each(team, n, out, false, [=](int64_t i) {
        const V value = r * (V(g[i]) * w[i] - V(in[i]) * pull);
        return add ? V(more[i]) + value : value;
      });
    });
  }
};

// The same for `chunk` rows, and while they are in the cache partial = sum over them of dy n; the chunks are summed
// afterwards into dw.
template <class T> struct RmsNormBackwardChunk {
  using V = Accumulator<T>;
  RmsNormBackward<T> norm;
  V* partial;
  int64_t rows, chunk;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t index) const {
    const int64_t first = index * chunk, last = first + chunk < rows ? first + chunk : rows;
    for (int64_t row = first; row < last; ++row) norm(team, row);
    const int64_t n = norm.cols;
    const T *in = norm.x + first * n, *g = norm.dy + first * n;
    const V* scale = norm.rstd + first;
    sum_lines(team, last - first, n, partial + index * n, [=](int64_t k) {
      const T *x_line = in + k * n, *dy_line = g + k * n;
      const V r = scale[k];
      return [=](int64_t i) { return V(dy_line[i]) * V(x_line[i]) * r; };
    });
  }
};

}  // namespace moxie
