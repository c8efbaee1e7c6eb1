// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al. 2021): dimensions i and i + head_dim / 2 of a head are a pair, turned by the
// angle position * base^(-2 i / head_dim).
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math_extended.h"

namespace moxie {

// frequency[i] = base^(-2 i / head_dim), frequency [head_dim / 2]
struct RopeFrequencies {
  double* frequency;
  double base;
  int64_t head_dim;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    double* out = frequency;
    const double from = base, size = static_cast<double>(head_dim);
    team.each(head_dim / 2, [=](int64_t i) { out[i] = math::pow(from, -2.0 * static_cast<double>(i) / size); });
  }
};

// cosine, sine [time, half] of the angles (first_position + t) frequency[i]
template <class V> struct RopeTable {
  const double* frequency;
  V* cosine;
  V* sine;
  int64_t half, first_position;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t t) const {
    const double* turn = frequency;
    V *c = cosine + t * half, *s = sine + t * half;
    const auto position = static_cast<double>(first_position + t);
    team.each(half, [=](int64_t i) {
      c[i] = static_cast<V>(math::cos(position * turn[i]));
      s[i] = static_cast<V>(math::sin(position * turn[i]));
    });
  }
};

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
