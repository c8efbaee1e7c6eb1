// SPDX-License-Identifier: Apache-2.0
// The smooth load of Shazeer et al. 2017, appendix A: how likely each expert is chosen if its own noise is drawn again.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"

namespace moxie::moe {

// Smaller deviations count as this, so that no quotient overflows.
inline constexpr double least_deviation = 1e-6;

// p[t, e] = Phi((z[t, e] - threshold) / deviation[t, e]) with Phi the normal distribution and threshold the k-th best
// noisy score of the other experts: best[t, k] where e is chosen, best[t, k - 1] where it isn't (best[t] falling).
template <class T> struct LoadProbability {
  const T* z;
  const T* noisy;
  const T* deviation;
  const T* best;  // [tokens, k + 1]
  T* p;
  int64_t experts, top_k;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    const T *score = z + token * experts, *seen = noisy + token * experts, *spread = deviation + token * experts;
    const T last = best[token * (top_k + 1) + top_k - 1], next = best[token * (top_k + 1) + top_k];
    T* out = p + token * experts;
    team.each(experts, [=](int64_t e) {
      const T threshold = seen[e] > next ? next : last;
      out[e] = math::normal((score[e] - threshold) / math::max(spread[e], T(least_deviation))).probability;
    });
  }
};

// With u = (z - threshold) / deviation and the density phi: dz = dp phi(u) / deviation, ddeviation = -dz u (0 where the
// deviation is below the least), and dbest[k] and dbest[k - 1] are minus the sums of dz over the experts that compare
// with them. dp is one row [experts] for all tokens, times `share`.
template <class T> struct LoadProbabilityBackward {
  const T* z;
  const T* noisy;
  const T* deviation;
  const T* best;
  const T* dload;
  T* dz;
  T* ddeviation;
  T* dbest;
  int64_t experts, top_k;
  T share;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    const T *score = z + token * experts, *seen = noisy + token * experts, *spread = deviation + token * experts;
    const T last = best[token * (top_k + 1) + top_k - 1], next = best[token * (top_k + 1) + top_k];
    const T *dp = dload, factor = share;
    T *dz_out = dz + token * experts, *dspread_out = ddeviation + token * experts;
    team.each(experts, [=](int64_t e) {
      const T threshold = seen[e] > next ? next : last, width = math::max(spread[e], T(least_deviation));
      const T u = (score[e] - threshold) / width;
      const T slope = factor * dp[e] * math::normal(u).density / width;
      dz_out[e] = slope;
      dspread_out[e] = spread[e] < T(least_deviation) ? T(0) : -slope * u;
    });
    team.sync();
    const T inside = team.sum(experts, [=](int64_t e) { return seen[e] > next ? dz_out[e] : T(0); });
    const T outside = team.sum(experts, [=](int64_t e) { return seen[e] > next ? T(0) : dz_out[e]; });
    T* dbest_out = dbest + token * (top_k + 1);
    const int64_t k = top_k;
    team.each(k + 1, [=](int64_t j) { dbest_out[j] = j == k ? -inside : j == k - 1 ? -outside : T(0); });
  }
};

}  // namespace moxie::moe
