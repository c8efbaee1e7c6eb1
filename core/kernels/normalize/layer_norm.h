// SPDX-License-Identifier: Apache-2.0
// LayerNorm (Ba et al. 2016): y = n w + b with n = (x - mean) r and r = 1 / sqrt(mean((x - mean)^2) + epsilon), over a
// row. Statistics, weight, bias and their gradients are in the accumulator's type; w and b may be null: 1 and 0.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/prefetch.h"
#include "core/kernels/reduce/lines.h"
#include "core/math.h"

namespace moxie {

template <class T> struct LayerNorm {
  using V = Accumulator<T>;
  const T* x;
  const V* weight;
  const V* bias;
  T* y;
  V* mean;
  V* rstd;
  int64_t cols;
  V epsilon;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    const V *w = weight, *b = bias;
    T* out = y + row * cols;
    V *mean_at = mean + row, *rstd_at = rstd + row;
    const int64_t n = cols;
    const V center = team.sum(n, [=](int64_t i) { return V(in[i]); }) / V(n);
    prefetch(in + n, n);
    const V squares = team.sum(n, [=](int64_t i) {
      const V d = V(in[i]) - center;
      return d * d;
    });
    const V r = V(1) / math::sqrt(squares / V(n) + epsilon);
    branch(w != nullptr, [=](auto scaled) {
      branch(b != nullptr, [=](auto shifted) {
        store_each(team, n, out, false, [=](int64_t i) {
          const V factor = scaled ? w[i] : V(1), shift = shifted ? b[i] : V(0);
          return (V(in[i]) - center) * r * factor + shift;
        });
      });
    });
    team.once([=] {
      *mean_at = center;
      *rstd_at = r;
    });
  }
};

// dx = r (g - mean(g) - n mean(g n)) with g = dy w
template <class T> struct LayerNormBackward {
  using V = Accumulator<T>;
  const T* x;
  const V* weight;
  const V* mean;
  const V* rstd;
  const T* dy;
  T* dx;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *in = x + row * cols, *upstream = dy + row * cols;
    const V* w = weight;
    T* out = dx + row * cols;
    const V center = mean[row], r = rstd[row];
    const int64_t n = cols;
    const bool add_to = accumulate;
    branch(w != nullptr, [=](auto scaled) {
      const auto g = [=](int64_t i) { return V(upstream[i]) * (scaled ? w[i] : V(1)); };
      const V push = team.sum(n, [=](int64_t i) { return g(i); }) / V(n);
      const V dot = team.sum(n, [=](int64_t i) { return g(i) * (V(in[i]) - center); });
      const V pull = dot * r * r / V(n);
      branch(add_to, [=](auto add) {
        store_each(team, n, out, add, [=](int64_t i) { return r * (g(i) - push - (V(in[i]) - center) * pull); });
      });
    });
  }
};

// Of `chunk` rows: dw = sum over the rows of dy n, db = sum of dy; the chunks are summed afterwards. Either may be
// null.
template <class T> struct LayerNormParameterPartial {
  using V = Accumulator<T>;
  const T* x;
  const V* mean;
  const V* rstd;
  const T* dy;
  V* dw;
  V* db;
  int64_t rows, cols, chunk;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t index) const {
    const int64_t first = index * chunk, last = first + chunk < rows ? first + chunk : rows, n = cols;
    const T *in = x + first * n, *g = dy + first * n;
    const V *center = mean + first, *scale = rstd + first;
    if (dw != nullptr)
      sum_lines(team, last - first, n, dw + index * n, [=](int64_t k) {
        const T *x_line = in + k * n, *dy_line = g + k * n;
        const V c = center[k], r = scale[k];
        return [=](int64_t i) { return V(dy_line[i]) * ((V(x_line[i]) - c) * r); };
      });
    if (db != nullptr)
      sum_lines(team, last - first, n, db + index * n, [=](int64_t k) {
        const T* dy_line = g + k * n;
        return [=](int64_t i) { return V(dy_line[i]); };
      });
  }
};

}  // namespace moxie
