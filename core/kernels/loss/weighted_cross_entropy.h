// SPDX-License-Identifier: Apache-2.0
// Cross entropy with class weights and label smoothing (Szegedy et al. 2016), one target class t per row. With classes
// K, smoothing s, weights w, their sum W, and l_c = -log softmax(x)_c = lse - x_c:
//   loss = (1 - s) w_t l_t + s / K sum_c w_c l_c
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/prefetch.h"
#include "core/math.h"

namespace moxie {

// lse, loss and counted = w_t of each row; loss = counted = 0 where the target is `ignored`
template <class T> struct WeightedCrossEntropy {
  using V = Accumulator<T>;
  const T* x;
  const int32_t* targets;
  const V* weights;  // [cols]; null: 1
  V* lse;
  V* loss;
  V* counted;
  int64_t cols;
  int32_t ignored;
  V smoothing;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    const V* w = weights;
    const int64_t n = cols;
    const int32_t target = targets[row];
    const bool counts = target != ignored;
    const V top = team.max(n, [=](int64_t i) { return V(in[i]); });
    prefetch(in + n, n);
    const V total = team.sum(n, [=](int64_t i) { return math::exp_nonpositive(V(in[i]) - top); });
    const V shift = top + math::log(total);
    V spread = V(0);
    if (smoothing > V(0)) {
      spread = smoothing / V(n) *
               (w != nullptr ? team.sum(n, [=](int64_t i) { return w[i] * (shift - V(in[i])); })
                             : team.sum(n, [=](int64_t i) { return shift - V(in[i]); }));
    }
    const V keep = V(1) - smoothing;
    V *lse_at = lse + row, *loss_at = loss + row, *counted_at = counted + row;
    team.once([=] {
      const V weight = !counts ? V(0) : w != nullptr ? w[target] : V(1);
      *lse_at = shift;
      *loss_at = counts ? keep * weight * (shift - V(in[target])) + spread : V(0);
      *counted_at = weight;
    });
  }
};

// dx_c = dloss / count (((1 - s) w_t + s W / K) softmax(x)_c - (1 - s) w_t [c = t] - s w_c / K); 0 in ignored rows
template <class T> struct WeightedCrossEntropyBackward {
  using V = Accumulator<T>;
  const T* x;
  const int32_t* targets;
  const V* weights;       // null: 1
  const V* weight_total;  // W
  const V* lse;
  const V* count;  // what the sum was divided by; null: 1
  const V* dloss;  // one number, or one for each row
  T* dx;
  int64_t cols;
  int32_t ignored;
  V smoothing;
  bool per_row, accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    const V* w = weights;
    T* out = dx + row * cols;
    const int64_t n = cols;
    const int32_t target = targets[row];
    const bool counts = target != ignored;
    const V weight = !counts ? V(0) : w != nullptr ? w[target] : V(1);
    const V upstream = dloss[per_row ? row : 0] / (count != nullptr ? *count : V(1));
    const V wanted = (V(1) - smoothing) * weight, each = smoothing / V(n), shift = lse[row];
    const V all = wanted + each * *weight_total;
    const bool add_to = accumulate;
    branch(w != nullptr, [=](auto weighted) {
      branch(add_to, [=](auto add) {
        team.each(n, [=](int64_t i) {
          const V label = (i == target ? wanted : V(0)) + each * (weighted ? w[i] : V(1));
          const V slope = upstream * (all * math::exp_nonpositive(V(in[i]) - shift) - label);
          store(out[i], counts ? slope : V(0), add);
        });
      });
    });
  }
};

}  // namespace moxie
