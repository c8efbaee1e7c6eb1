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

// dx = r (g - n mean(g n)) with g = dy w and n = x r
template <class T> struct RmsNormBackward {
  using V = Accumulator<T>;
  const T* x;
  const V* weight;
  const V* rstd;
  const T* dy;
  T* dx;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *in = x + row * cols, *g = dy + row * cols;
    const V* w = weight;
    T* out = dx + row * cols;
    const V r = rstd[row];
    const V dot = team.sum(cols, [=](int64_t i) { return V(g[i]) * w[i] * V(in[i]); });
    const V pull = dot * r * r / V(cols);
    const int64_t n = cols;
    branch(accumulate, [=](auto add) {
      store_each(team, n, out, add, [=](int64_t i) { return r * (V(g[i]) * w[i] - V(in[i]) * pull); });
    });
  }
};

// Of `chunk` rows: partial = sum over the rows of dy x r; the chunks are summed afterwards into dw.
template <class T> struct RmsNormWeightPartial {
  using V = Accumulator<T>;
  const T* x;
  const V* rstd;
  const T* dy;
  V* partial;
  int64_t rows, cols, chunk;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t index) const {
    const int64_t first = index * chunk, last = first + chunk < rows ? first + chunk : rows;
    const int64_t n = cols;
    const T *in = x + first * n, *g = dy + first * n;
    const V* scale = rstd + first;
    sum_lines(team, last - first, n, partial + index * n, [=](int64_t k) {
      const T *x_line = in + k * n, *dy_line = g + k * n;
      const V r = scale[k];
      return [=](int64_t i) { return V(dy_line[i]) * V(x_line[i]) * r; };
    });
  }
};

}  // namespace moxie
