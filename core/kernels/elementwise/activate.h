// SPDX-License-Identifier: Apache-2.0
// SwiGLU (Shazeer, "GLU variants improve Transformer", 2020): y = silu(gate) * up, x = [gate, up] side by side.
#pragma once
#include "core/kernels/elementwise/activations.h"
#include "core/team.h"

namespace moxie {

// x [rows, 2 hidden] -> y [rows, hidden]
template <class T> struct SwiGlu {
  const T* x;
  T* y;
  int64_t hidden;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T *gate = x + row * 2 * hidden, *up = gate + hidden;
    T* out = y + row * hidden;
    // On the CPU y keeps silu(gate) meanwhile, so that one half of the row is read after the other: two streams in one
    // page come in at half the speed.
    if constexpr (sizeof(T) == sizeof(V) && std::is_same_v<Team, SerialTeam>) {
      store_each(team, hidden, out, false, [=](int64_t i) { return Silu::f(gate[i]); });
      store_each(team, hidden, out, false, [=](int64_t i) { return out[i] * up[i]; });
    } else {
      store_each(team, hidden, out, false, [=](int64_t i) { return Silu::f(V(gate[i])) * V(up[i]); });
    }
  }
};

// dgate = dy up silu'(gate), dup = dy silu(gate)
template <class T> struct SwiGluBackward {
  const T* x;
  const T* dy;
  T* dx;
  int64_t hidden;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T *gate = x + row * 2 * hidden, *up = gate + hidden, *g = dy + row * hidden;
    T *dgate = dx + row * 2 * hidden, *dup = dgate + hidden;
    const int64_t n = hidden;
    branch(accumulate, [=](auto add) {
      if constexpr (sizeof(T) == sizeof(V) && std::is_same_v<Team, SerialTeam> && !decltype(add)::value) {
        team.each(n, [=](int64_t i) {
          const V z = gate[i], s = math::sigmoid(z), upstream = g[i];
          dgate[i] = upstream * s * (V(1) + z * (V(1) - s));
          dup[i] = upstream * z * s;
        });
        store_each(team, n, dgate, false, [=](int64_t i) { return dgate[i] * up[i]; });
      } else {
        team.each(n, [=](int64_t i) {
          const V z = V(gate[i]), s = math::sigmoid(z), upstream = V(g[i]);
          store(dgate[i], upstream * V(up[i]) * s * (V(1) + z * (V(1) - s)), add);
          store(dup[i], upstream * z * s, add);
        });
      }
    });
  }
};

}  // namespace moxie
