// SPDX-License-Identifier: Apache-2.0
// The elementwise parts of Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon); its matrix products go through
// core/gemm.h.
#pragma once
#include "core/kernels/optimizer/segments.h"
#include "core/math.h"

namespace moxie {

// m = momentum m + (1 - momentum) g with g the gradient times `*grad_scale`; the direction, which replaces the
// gradient, is m, or for Nesterov's momentum m + (1 - momentum) g.
template <class T> struct MuonMomentumRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  T momentum;
  const T* grad_scale;
  bool nesterov;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T scale = *grad_scale;
    if (scale != scale) return;
    const ParameterSegment<T> part = segment_row(segments, count, row);
    T *m = part.first, *g = part.grad;
    const T keep = momentum;
    const T of_grad = nesterov ? T(1) - momentum : T(0), of_momentum = nesterov ? momentum : T(1);
    team.each(part.numel, [=](int64_t i) {
      const T grad = g[i] * scale, velocity = keep * m[i] + (T(1) - keep) * grad;
      m[i] = velocity;
      g[i] = of_grad * grad + of_momentum * velocity;
    });
  }
};

// y = x / max(|x|, epsilon), the Frobenius norm, for each matrix of a batch; summed in f64. y may be x.
template <class T> struct NormalizeMatrix {
  const T* x;
  T* y;
  int64_t numel;               // of one matrix
  int64_t x_stride, y_stride;  // between the matrices
  T epsilon;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t index) const {
    const T* in = x + index * x_stride;
    T* out = y + index * y_stride;
    const double squares = team.sum(numel, [=](int64_t i) { return double(in[i]) * double(in[i]); });
    const T norm = T(math::sqrt(squares));
    const T factor = T(1) / (norm > epsilon ? norm : epsilon);
    team.sync();
    team.each(numel, [=](int64_t i) { out[i] = in[i] * factor; });
  }
};

// p = a I + b x + c p, row by row, for a batch of x and p = x^2 [size, size]
template <class T> struct QuinticRows {
  const T* x;
  T* p;
  int64_t size;
  T a, b, c;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * size;
    T* out = p + row * size;
    const T constant = a, linear = b, square = c;
    const int64_t diagonal = row % size;
    team.each(size, [=](int64_t i) { out[i] = linear * in[i] + square * out[i]; });
    team.sync();
    team.once([=] { out[diagonal] += constant; });
  }
};

// w = w (1 - lr decay) - lr g, with the scaled orthogonal direction in the gradient's place
template <class T> struct MuonApplyRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  const StepRates<T>* rates;
  const T* grad_scale;  // only whether it is NaN
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T scale = *grad_scale;
    if (scale != scale) return;
    const ParameterSegment<T> part = segment_row(segments, count, row);
    T* w = part.value;
    const T *g = part.grad, rate = rates->lr * part.lr_scale, shrink = T(1) - rate * part.decay;
    team.each(part.numel, [=](int64_t i) { w[i] = w[i] * shrink - rate * g[i]; });
    renew_copy(team, part);
  }
};

}  // namespace moxie
