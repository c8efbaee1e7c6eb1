// SPDX-License-Identifier: Apache-2.0
// Lion (Chen et al. 2023, arXiv 2302.06675) over all parameters in one launch.
#pragma once
#include "core/kernels/optimizer/segments.h"

namespace moxie {

// w -= lr (sign(b1 m + (1 - b1) g) + decay w), then m = b2 m + (1 - b2) g, with g the gradient times `*grad_scale` and
// sign(0) = 0.
template <class T> struct LionRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  const StepRates<T>* rates;
  T beta1, beta2;
  const T* grad_scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T scale = *grad_scale;
    if (scale != scale) return;
    const ParameterSegment<T> part = segment_row(segments, count, row);
    T *w = part.value, *m = part.first;
    const T *g = part.grad, rate = rates->lr * part.lr_scale, shrink = T(1) - rate * part.decay;
    const T b1 = beta1, b2 = beta2;
    team.each(part.numel, [=](int64_t i) {
      const T grad = g[i] * scale, direction = b1 * m[i] + (T(1) - b1) * grad;
      m[i] = b2 * m[i] + (T(1) - b2) * grad;
      const T up = direction > T(0) ? rate : T(0), down = direction < T(0) ? rate : T(0);
      w[i] = w[i] * shrink - (up - down);
    });
    renew_copy(team, part);
  }
};

}  // namespace moxie
