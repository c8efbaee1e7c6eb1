// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"

namespace moxie::moe {

// value[t] = sum over e of load[e] p[t, e] with p = softmax(z[t])
template <class T> struct WeightedShare {
  const T* z;
  const T* load;
  T* value;
  int64_t experts;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    const T *score = z + token * experts, *weight = load;
    const T top = team.max(experts, [=](int64_t e) { return score[e]; });
    const T total = team.sum(experts, [=](int64_t e) { return math::exp(score[e] - top); });
    const T weighted = team.sum(experts, [=](int64_t e) { return weight[e] * math::exp(score[e] - top); });
    T* out = value + token;
    team.once([=] { *out = weighted / total; });
  }
};

// dz[t, e] (+)= scale p[t, e] (load[e] - value[t])
template <class T> struct WeightedShareBackward {
  const T* z;
  const T* load;
  const T* value;
  const T* dloss;
  T* dz;
  int64_t experts;
  T scale;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    const T *score = z + token * experts, *weight = load;
    T* out = dz + token * experts;
    const T top = team.max(experts, [=](int64_t e) { return score[e]; });
    const T total = team.sum(experts, [=](int64_t e) { return math::exp(score[e] - top); });
    const T factor = scale * *dloss / total, mean = value[token];
    const int64_t n = experts;
    branch(accumulate, [=](auto add) {
      team.each(n, [=](int64_t e) { store(out[e], factor * math::exp(score[e] - top) * (weight[e] - mean), add); });
    });
  }
};

}  // namespace moxie::moe
