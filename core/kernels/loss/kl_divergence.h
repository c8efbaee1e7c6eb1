// SPDX-License-Identifier: Apache-2.0
// The Kullback-Leibler divergence of two distributions given as log-probabilities, one pair per row.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"

namespace moxie {

// KL(P || Q) = sum p (log p - log q) with p = exp(log p); what P never does (log p = -inf) counts for nothing
template <class T> struct KlDivergence {
  using V = Accumulator<T>;
  const T* log_p;
  const T* log_q;
  V* out;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *a = log_p + row * cols, *b = log_q + row * cols;
    V* result = out + row;
    const V total = team.sum(cols, [=](int64_t i) {
      const V p = math::exp(V(a[i]));
      const V term = p * (V(a[i]) - V(b[i]));
      return p == V(0) ? V(0) : term;
    });
    team.once([=] { *result = total; });
  }
};

// d log q = -scale dloss p,  d log p = scale dloss p (log p - log q + 1), of which one is written
template <bool by_q, class T> struct KlDivergenceBackward {
  using V = Accumulator<T>;
  const T* log_p;
  const T* log_q;
  const V* dloss;  // one number, or one for each row
  T* out;
  int64_t cols;
  V scale;
  bool per_row, accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *a = log_p + row * cols, *b = log_q + row * cols;
    T* o = out + row * cols;
    const V factor = scale * dloss[per_row ? row : 0];
    const int64_t n = cols;
    branch(accumulate, [=](auto add) {
      team.each(n, [=](int64_t i) {
        const V p = math::exp(V(a[i]));
        if constexpr (by_q) {
          store(o[i], -factor * p, add);
        } else {
          const V slope = p * (V(a[i]) - V(b[i]) + V(1));
          store(o[i], p == V(0) ? V(0) : factor * slope, add);
        }
      });
    });
  }
};

}  // namespace moxie
