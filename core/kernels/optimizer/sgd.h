// SPDX-License-Identifier: Apache-2.0
// Stochastic gradient descent over all parameters in one launch, with momentum (Sutskever et al. 2013, as PyTorch
// writes it) where there is an array for it.
#pragma once
#include "core/kernels/optimizer/segments.h"

namespace moxie {

// g = *grad_scale gradient + decay w. Without momentum w -= lr g; with it m = momentum m + g and w -= lr m, or, for
// Nesterov's, w -= lr (g + momentum m).
template <class T> struct SgdRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  const StepRates<T>* rates;
  T momentum;
  const T* grad_scale;
  bool nesterov;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T scale = *grad_scale;
    if (scale != scale) return;
    const ParameterSegment<T> part = segment_row(segments, count, row);
    T *w = part.value, *m = part.first;
    const T *g = part.grad, rate = rates->lr * part.lr_scale, decay = part.decay;
    if (m == nullptr) {
      team.each(part.numel, [=](int64_t i) { w[i] -= rate * (g[i] * scale + decay * w[i]); });
      renew_copy(team, part);
      return;
    }
    const T keep = momentum, of_grad = nesterov ? T(1) : T(0), of_momentum = nesterov ? momentum : T(1);
    team.each(part.numel, [=](int64_t i) {
      const T grad = g[i] * scale + decay * w[i], velocity = keep * m[i] + grad;
      m[i] = velocity;
      w[i] -= rate * (of_grad * grad + of_momentum * velocity);
    });
    renew_copy(team, part);
  }
};

}  // namespace moxie
