// SPDX-License-Identifier: Apache-2.0
// Adam (Kingma & Ba 2015, arXiv 1412.6980) and AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) over all parameters
// in one launch.
#pragma once
#include "core/kernels/optimizer/segments.h"
#include "core/math.h"

namespace moxie {

// What one step makes of an element.
template <class T> struct AdamStep { T mean, variance, value; };

// m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, w -= lr (m / c1 / (sqrt(v / c2) + epsilon) + decay w)
// with g the gradient times `*grad_scale` (clipping) and c1, c2 the bias corrections 1 - b^step.
template <class T> struct AdamWRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  const StepRates<T>* rates;
  T beta1, beta2, epsilon;
  const T* grad_scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T scale = *grad_scale;
    if (scale != scale) return;
    const ParameterSegment<T> part = segment_row(segments, count, row);
    T *w = part.value, *m = part.first, *v = part.second;
    const T *g = part.grad, own_lr = rates->lr * part.lr_scale;
    const T rate = own_lr / rates->correction1, shrink = T(1) - own_lr * part.decay;
    const T root = T(1) / math::sqrt(rates->correction2);
    const T b1 = beta1, b2 = beta2, small = epsilon;
    const auto step = [=](int64_t i) {
      const T grad = g[i] * scale;
      const T mean = b1 * m[i] + (T(1) - b1) * grad, variance = b2 * v[i] + (T(1) - b2) * grad * grad;
      return AdamStep<T>{mean, variance, w[i] * shrink - rate * mean / (math::sqrt(variance) * root + small)};
    };
    team.each(part.numel, step, [=](int64_t i, const AdamStep<T>& to) {
      m[i] = to.mean;
      v[i] = to.variance;
      w[i] = to.value;
    });
    renew_copy(team, part);
  }
};

// The same with the decay inside the gradient, g + decay w, as L2 regularisation: w -= lr m / c1 / (sqrt(v / c2) +
// epsilon)
template <class T> struct AdamRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  const StepRates<T>* rates;
  T beta1, beta2, epsilon;
  const T* grad_scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T scale = *grad_scale;
    if (scale != scale) return;
    const ParameterSegment<T> part = segment_row(segments, count, row);
    T *w = part.value, *m = part.first, *v = part.second;
    const T *g = part.grad, rate = rates->lr * part.lr_scale / rates->correction1, decay = part.decay;
    const T b1 = beta1, b2 = beta2, small = epsilon, root = T(1) / math::sqrt(rates->correction2);
    const auto step = [=](int64_t i) {
      const T grad = g[i] * scale + decay * w[i];
      const T mean = b1 * m[i] + (T(1) - b1) * grad, variance = b2 * v[i] + (T(1) - b2) * grad * grad;
      return AdamStep<T>{mean, variance, w[i] - rate * mean / (math::sqrt(variance) * root + small)};
    };
    team.each(part.numel, step, [=](int64_t i, const AdamStep<T>& to) {
      m[i] = to.mean;
      v[i] = to.variance;
      w[i] = to.value;
    });
    renew_copy(team, part);
  }
};

}  // namespace moxie
