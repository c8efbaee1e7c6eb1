// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov & Hutter 2019, decoupled weight decay) over all parameters in one launch.
#pragma once
#include <cstdint>

#include "core/macros.h"
#include "core/math.h"

namespace moxie {

// One parameter among many: its arrays, and the first of its rows of `optimizer_row` elements.
inline constexpr int64_t optimizer_row = 16 * 1024;
template <class T> struct ParameterSegment {
  T* value;
  const T* grad;
  T* mean;      // first moment
  T* variance;  // second moment
  int64_t numel;
  int64_t first_row;
  T decay;  // weight decay of this parameter
};

// Which segment holds row `row`: the last that begins at or before it.
template <class T>
MOXIE_FN const ParameterSegment<T>& segment_of(const ParameterSegment<T>* segments, int64_t count, int64_t row) {
  int64_t low = 0, high = count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (segments[middle].first_row <= row)
      low = middle;
    else
      high = middle - 1;
  }
  return segments[low];
}

// m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, w -= lr (m / c1 / (sqrt(v / c2) + epsilon) + decay w)
// with g the gradient times `grad_scale` (clipping) and c1, c2 the bias corrections 1 - b^step.
template <class T> struct AdamWRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  T lr, beta1, beta2, epsilon, correction1, correction2, grad_scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const ParameterSegment<T>& segment = segment_of(segments, count, row);
    const int64_t first = (row - segment.first_row) * optimizer_row;
    const int64_t left = segment.numel - first, n = left < optimizer_row ? left : optimizer_row;
    T *w = segment.value + first, *m = segment.mean + first, *v = segment.variance + first;
    const T* g = segment.grad + first;
    const T rate = lr / correction1, shrink = T(1) - lr * segment.decay, root = T(1) / math::sqrt(correction2);
    const T b1 = beta1, b2 = beta2, small = epsilon, scale = grad_scale;
    team.each(n, [=](int64_t i) {
      const T grad = g[i] * scale;
      const T mean = b1 * m[i] + (T(1) - b1) * grad, variance = b2 * v[i] + (T(1) - b2) * grad * grad;
      m[i] = mean;
      v[i] = variance;
      w[i] = w[i] * shrink - rate * mean / (math::sqrt(variance) * root + small);
    });
  }
};

// partial[row] = sum of the squared gradients of a row
template <class T> struct SquaredGradRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  double* partial;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const ParameterSegment<T>& segment = segment_of(segments, count, row);
    const int64_t first = (row - segment.first_row) * optimizer_row;
    const int64_t left = segment.numel - first, n = left < optimizer_row ? left : optimizer_row;
    const T* g = segment.grad + first;
    const T total = team.sum(n, [=](int64_t i) { return g[i] * g[i]; });
    double* out = partial + row;
    team.once([=] { *out = static_cast<double>(total); });
  }
};

}  // namespace moxie
