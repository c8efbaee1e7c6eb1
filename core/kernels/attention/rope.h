// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al. 2021): dimensions i and i + head_dim / 2 of a head are a pair, turned by the
// angle position * base^(-2 i / head_dim).
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y = x with the first `turned` heads rotated and the others copied; x, y [rows, heads, head_dim], a row is one token
// at time row % time. cosine, sine [time, head_dim / 2]. direction -1 turns back, which is the backward pass.
template <class T> struct Rope {
  using V = Accumulator<T>;
  const T* x;
  T* y;
  const V* cosine;
  const V* sine;
  int64_t time, heads, turned, head_dim;
  V direction;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t half = head_dim / 2, width = heads * head_dim;
    const V *c = cosine + row % time * half, *s = sine + row % time * half;
    const V sign = direction;
    for (int64_t head = 0; head < turned; ++head) {
      const T *first = x + row * width + head * head_dim, *second = first + half;
      T *out_first = y + row * width + head * head_dim, *out_second = out_first + half;
      branch(accumulate, [=](auto add) {
        team.each(half, [=](int64_t i) {
          const V a = V(first[i]), b = V(second[i]), turn = sign * s[i];
          store(out_first[i], a * c[i] - b * turn, add);
          store(out_second[i], b * c[i] + a * turn, add);
        });
      });
    }
    const int64_t done = turned * head_dim;
    const T* rest = x + row * width + done;
    T* out_rest = y + row * width + done;
    branch(accumulate,
           [=](auto add) { team.each(width - done, [=](int64_t i) { store(out_rest[i], V(rest[i]), add); }); });
  }
};

}  // namespace moxie
