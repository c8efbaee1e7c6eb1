// SPDX-License-Identifier: Apache-2.0
// Noise in the router. Draws are numbered by their place in the whole batch of a step: element i of a part that begins
// at element `first` takes number first + i, however the batch is cut into parts.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"
#include "core/philox.h"

namespace moxie::moe {

// n, standard normal
struct GaussianDraw {
  template <class Team, class F>
  static MOXIE_FN void each(const Team& team, RandomKey key, uint64_t first, int64_t n, F f) {
    each_normal(team, key, first, n, f);
  }
};

// n = -log(-log(u)), standard Gumbel: mean 0.577 (Euler's constant), deviation pi / sqrt(6)
struct GumbelDraw {
  template <class Team, class F>
  static MOXIE_FN void each(const Team& team, RandomKey key, uint64_t first, int64_t n, F f) {
    each_uniform(team, key, first, n, [=](int64_t i, float u) { f(i, -math::log(-math::log(u))); });
  }
};

// y = x + scale n
template <class Draw, class T> struct AddNoise {
  const T* x;
  T* y;
  int64_t numel;
  T scale;
  RandomKey key;
  uint64_t first;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t begin = row * elementwise_row;
    const T* in = x + begin;
    T* out = y + begin;
    const T factor = scale;
    Draw::each(team, key.resolved(), first + static_cast<uint64_t>(begin), elementwise_count(numel, row),
               [=](int64_t i, float n) { out[i] = in[i] + factor * T(n); });
  }
};

// y (+)= x (1 + bound (2 u - 1)), u uniform in (0, 1). Its own backward pass: the factors are drawn again from the key.
template <class T> struct BoundedNoise {
  const T* x;
  T* y;
  int64_t numel;
  Accumulator<T> bound;
  RandomKey key;
  uint64_t first;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t begin = row * elementwise_row, n = elementwise_count(numel, row);
    const T* in = x + begin;
    T* out = y + begin;
    const V reach = bound;
    branch(accumulate, [=, this](auto add) {
      each_uniform(team, key.resolved(), first + static_cast<uint64_t>(begin), n,
                   [=](int64_t i, float u) { store(out[i], V(in[i]) * (V(1) + reach * V(2 * u - 1)), add); });
    });
  }
};

// y = z + scale softplus(raw) n, n standard normal: Shazeer et al. 2017, Eq. 4, with scale = 1
template <class T> struct LearnedNoise {
  const T* z;
  const T* raw;
  T* y;
  int64_t numel;
  T scale;
  RandomKey key;
  uint64_t first;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t begin = row * elementwise_row;
    const T *score = z + begin, *in = raw + begin;
    T* out = y + begin;
    const T factor = scale;
    each_normal(team, key.resolved(), first + static_cast<uint64_t>(begin), elementwise_count(numel, row),
                [=](int64_t i, float n) { out[i] = score[i] + factor * math::softplus(in[i]) * T(n); });
  }
};

// draw (+)= dy scale sigmoid(raw) n, with the same n
template <class T> struct LearnedNoiseBackward {
  const T* raw;
  const T* dy;
  T* draw;
  int64_t numel;
  T scale;
  RandomKey key;
  uint64_t first;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t begin = row * elementwise_row, n = elementwise_count(numel, row);
    const T *in = raw + begin, *g = dy + begin;
    T* out = draw + begin;
    const T factor = scale;
    branch(accumulate, [=, this](auto add) {
      each_normal(team, key.resolved(), first + static_cast<uint64_t>(begin), n,
                  [=](int64_t i, float noise) { store(out[i], g[i] * factor * math::sigmoid(in[i]) * T(noise), add); });
    });
  }
};

}  // namespace moxie::moe
