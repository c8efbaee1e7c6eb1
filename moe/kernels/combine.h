// SPDX-License-Identifier: Apache-2.0
// Moving rows between tokens and slots. Every kernel gathers: no two members write to one place, nothing is atomic.
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie::moe {

// y[t] (+)= sum over j of w[t, j] rows[slot[t, j]]; w null: all 1. Order of addition: j = 0, 1, ..
template <class T> struct Combine {
  const T* rows;
  const Accumulator<T>* weights;
  const int32_t* slot;
  T* y;
  int64_t cols, top_k;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    using V = Accumulator<T>;
    T* out = y + token * cols;
    const int32_t* at = slot + token * top_k;
    const V* w = weights == nullptr ? nullptr : weights + token * top_k;
    for (int64_t first = 0; first < top_k; first += 2) {  // two rows a pass: half the traffic to y
      const bool add = accumulate || first > 0, pair = first + 1 < top_k;
      const T *a = rows + at[first] * cols, *b = pair ? rows + at[first + 1] * cols : a;
      const V wa = w == nullptr ? V(1) : w[first], wb = pair ? (w == nullptr ? V(1) : w[first + 1]) : V(0);
      const int64_t n = cols;
      branch(add, [=](auto adds) {
        if (pair) team.each(n, [=](int64_t i) { store(out[i], wa * V(a[i]) + wb * V(b[i]), adds); });
        else team.each(n, [=](int64_t i) { store(out[i], wa * V(a[i]), adds); });
      });
    }
  }
};

// Of token t and each of its assignments j: drows[slot] = w[t, j] dy[t] and dw[t, j] = dy[t] . rows[slot].
template <class T> struct CombineBackward {
  const T* rows;
  const Accumulator<T>* weights;
  const int32_t* slot;
  const T* dy;
  T* drows;               // null: not wanted
  Accumulator<T>* dweights;  // null: not wanted
  int64_t cols, top_k;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    using V = Accumulator<T>;
    const T* g = dy + token * cols;
    for (int64_t j = 0; j < top_k; ++j) {
      const int64_t assignment = token * top_k + j, place = slot[assignment] * cols;
      if (dweights != nullptr) {
        const T* in = rows + place;
        V* out = dweights + assignment;
        const V dot = team.sum(cols, [=](int64_t i) { return V(g[i]) * V(in[i]); });
        team.once([=] { *out = dot; });
      }
      if (drows != nullptr) {
        T* out = drows + place;
        const V w = weights[assignment];
        team.each(cols, [=](int64_t i) { out[i] = static_cast<T>(w * V(g[i])); });
      }
    }
  }
};

}  // namespace moxie::moe
