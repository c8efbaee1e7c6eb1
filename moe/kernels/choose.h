// SPDX-License-Identifier: Apache-2.0
// From a token's scores to its experts and their weights in one pass. Ties go to the lowest expert.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/index/top_k.h"
#include "core/math.h"

namespace moxie::moe {

// chosen[t] = the k best by seen[t], best first. With l = weighed[t] + bias, weights[t, j] = softmax(l)[chosen[t, j]],
// where the softmax goes over the chosen alone, or, with `over_all`, over all experts.
template <class T> struct ChooseExperts {
  const T* seen;
  const T* weighed;  // may be seen
  const T* bias;     // null: none
  T* weights;
  int32_t* chosen;
  int64_t experts, top_k;
  bool over_all;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    const T *score = seen + token * experts, *logit = weighed + token * experts, *shift = bias;
    T* weight = weights + token * top_k;
    int32_t* expert = chosen + token * top_k;
    int64_t last_key = std::numeric_limits<int64_t>::max(), last = -1;
    for (int64_t pass = 0; pass < top_k; ++pass) {
      const int64_t best = team.argmax(experts, [=](int64_t e) {
        const int64_t key = order_key(static_cast<double>(score[e]));
        const bool left = key < last_key || (key == last_key && e > last);
        return left ? key : std::numeric_limits<int64_t>::min();
      });
      last = best;
      last_key = order_key(static_cast<double>(score[best]));
      team.once([=] {
        weight[pass] = shift == nullptr ? logit[best] : logit[best] + shift[best];
        expert[pass] = static_cast<int32_t>(best);
      });
    }
    team.sync();
    const int64_t k = top_k;
    T top, total;
    if (over_all) {
      const auto all = [=](int64_t e) { return shift == nullptr ? logit[e] : logit[e] + shift[e]; };
      top = team.max(experts, all);
      total = team.sum(experts, [=](int64_t e) { return math::exp_nonpositive(all(e) - top); });
    } else {
      top = team.max(k, [=](int64_t j) { return weight[j]; });
      total = team.sum(k, [=](int64_t j) { return math::exp_nonpositive(weight[j] - top); });
    }
    const T scale = T(1) / total;
    team.sync();
    team.each(k, [=](int64_t j) { weight[j] = math::exp_nonpositive(weight[j] - top) * scale; });
  }
};

// With w the weights and s = sum over j of w[j] dw[j]: dl of a chosen expert is w[j] (dw[j] - s). Of all others it is
// 0, or, where the softmax went over all, -p s with their share p.
template <class T> struct ChooseExpertsBackward {
  const T* weighed;
  const T* bias;
  const T* weights;
  const int32_t* chosen;
  const T* dweights;
  T* dlogits;
  int64_t experts, top_k;
  bool over_all, accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    const T *w = weights + token * top_k, *dw = dweights + token * top_k;
    const T *logit = weighed + token * experts, *shift = bias;
    const int32_t* expert = chosen + token * top_k;
    T* out = dlogits + token * experts;
    const T dot = team.sum(top_k, [=](int64_t j) { return w[j] * dw[j]; });
    if (over_all) {
      const auto all = [=](int64_t e) { return shift == nullptr ? logit[e] : logit[e] + shift[e]; };
      const T top = team.max(experts, all);
      const T total = team.sum(experts, [=](int64_t e) { return math::exp_nonpositive(all(e) - top); });
      const T scale = -dot / total;
      const int64_t n = experts;
      branch(accumulate, [=](auto add) {
        team.each(n, [=](int64_t e) { store(out[e], scale * math::exp_nonpositive(all(e) - top), add); });
      });
    } else if (!accumulate) {
      team.each(experts, [=](int64_t e) { out[e] = T(0); });
    }
    team.sync();
    const T own = over_all ? T(0) : dot;  // the share of the others has it already
    team.each(top_k, [=](int64_t j) { out[expert[j]] += w[j] * (dw[j] - own); });
  }
};

}  // namespace moxie::moe
