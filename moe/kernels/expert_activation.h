// SPDX-License-Identifier: Apache-2.0
// What stands between the two projections' gradients in the backward pass of an expert's SwiGLU FFN.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/elementwise/activations.h"

namespace moxie::moe {

// Of the slot of a row, with z = [gate, up], a = silu(gate) up, its weight w in the output, and da = W_down^T
// dy[token]:
//   dweight = da . a      weighted = w a, so that dW_down = sum of dy[token] weighted^T
//   dz = w [da up silu'(gate), da silu(gate)]
template <class T> struct ExpertActivationBackward {
  using V = Accumulator<T>;
  const T* z;                 // [rows, 2 hidden]
  const T* da;                // [rows, hidden]
  const int32_t* assignment;  // [rows]
  const V* weights;           // by assignment
  T* dz;                      // [rows, 2 hidden]
  T* weighted;                // [rows, hidden]
  V* dweights;                // by assignment; null: not wanted
  int64_t hidden;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *gate = z + row * 2 * hidden, *up = gate + hidden, *g = da + row * hidden;
    T *dgate = dz + row * 2 * hidden, *dup = dgate + hidden, *a = weighted + row * hidden;
    const V w = weights[assignment[row]];
    // One pass for the sum and for what is written beside it.
    const V dot = team.sum(hidden, [=](int64_t i) {
      const V x = V(gate[i]), s = math::sigmoid(x), silu = x * s, exact = silu * V(up[i]), upstream = w * V(g[i]);
      a[i] = static_cast<T>(w * exact);
      dgate[i] = static_cast<T>(upstream * V(up[i]) * s * (V(1) + x * (V(1) - s)));
      dup[i] = static_cast<T>(upstream * silu);
      return V(g[i]) * exact;
    });
    if (dweights == nullptr) return;
    V* out = dweights + assignment[row];
    team.once([=] { *out = dot; });
  }
};

}  // namespace moxie::moe
