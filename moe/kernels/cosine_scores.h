// SPDX-License-Identifier: Apache-2.0
// The cosine router's scores and their gradients, arXiv 2405.14131, Eq. 2 (tau = 0) and Eq. 9:
//   z = scale * (x . r) / ((|x| + tau_2) (|r| + tau_1)),   x a token, r an expert's row; 0 where a denominator is 0
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"
#include "moe/kernels/choose.h"

namespace moxie::moe {

template <class T> MOXIE_FN T inverse_or_zero(T x) { return x == T(0) ? T(0) : T(1) / x; }

// norm = |.| of each row of x [tokens, cols], and then of each of weight
template <class T> struct RowNorms {
  const T* x;
  const T* weight;
  T* norm;
  int64_t tokens, cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = row < tokens ? x + row * cols : weight + (row - tokens) * cols;
    T* out = norm + row;
    const T squares = team.sum(cols, [=](int64_t i) { return in[i] * in[i]; });
    team.once([=] { *out = math::sqrt(squares); });
  }
};

// z [tokens, experts] holds the dot products x . r and receives the scores.
template <class T> struct CosineScores {
  T* z;
  const T* token_norm;
  const T* expert_norm;
  int64_t experts;
  T tau_expert, tau_token, scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    T* out = z + row * experts;
    const T* norms = expert_norm;
    const T factor = scale * inverse_or_zero(token_norm[row] + tau_token), shift = tau_expert;
    team.each(experts, [=](int64_t e) { out[e] *= factor * inverse_or_zero(norms[e] + shift); });
  }
};

// With dz the sum of `dz` and, where it isn't null, `dlogits`:
// ddot = dz * scale / ((|x| + tau_2)(|r| + tau_1)), the gradient of the dot products;
// product = dz * z, whose sum over experts is -(|x| + tau_2) d|x| and over tokens -(|r| + tau_1) d|r|;
// pull = d|x| / |x|, so that dx = ddot R + pull x.
template <class T> struct CosineScoresBackward {
  const T* z;
  const T* dz;
  const T* dlogits;
  const T* token_norm;
  const T* expert_norm;
  T* ddot;
  T* product;
  T* pull;
  int64_t experts;
  T tau_expert, tau_token, scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T *score = z + row * experts, *g = dz + row * experts, *norms = expert_norm;
    const T* more = dlogits == nullptr ? nullptr : dlogits + row * experts;
    T *dot_out = ddot + row * experts, *product_out = product + row * experts, *pull_out = pull + row;
    const T inverse = inverse_or_zero(token_norm[row] + tau_token), factor = scale * inverse, shift = tau_expert;
    const T token_inverse = inverse_or_zero(token_norm[row]);
    const int64_t n = experts;
    branch(more != nullptr, [=](auto both) {
      const auto gradient = [=](int64_t e) { return both ? g[e] + more[e] : g[e]; };
      team.each(n, [=](int64_t e) {
        dot_out[e] = gradient(e) * factor * inverse_or_zero(norms[e] + shift);
        product_out[e] = gradient(e) * score[e];
      });
      const T total = team.sum(n, [=](int64_t e) { return gradient(e) * score[e]; });
      team.once([=] { *pull_out = -total * inverse * token_inverse; });
    });
  }
};

// From the dot products to scores, experts and weights in one pass, and back.
template <class T> struct CosineChoice {
  CosineScores<T> score;
  ChooseExperts<T> choose;  // seen = weighed = z
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    score(team, token);
    team.sync();
    choose(team, token);
  }
};
template <class T> struct CosineChoiceBackward {
  ChooseExpertsBackward<T> choose;  // writes dlogits, which `score` adds to dz
  CosineScoresBackward<T> score;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    choose(team, token);
    team.sync();
    score(team, token);
  }
};

// y[row] += factor[row] * x[row]
template <class T> struct AddScaledRows {
  const T* x;
  const T* factor;
  T* y;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    T* out = y + row * cols;
    const T scale = factor[row];
    team.each(cols, [=](int64_t i) { out[i] += scale * in[i]; });
  }
};

// y[e] += pull r[e] for each expert's row, with pull = -sum / ((|r| + tau_1) |r|) from the column sums of dz * z
template <class T> struct AddExpertRows {
  const T* weight;
  const T* sums;
  const T* expert_norm;
  T* y;
  int64_t cols;
  T tau_expert;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t e) const {
    const T* in = weight + e * cols;
    T* out = y + e * cols;
    const T pull = -sums[e] * inverse_or_zero(expert_norm[e] + tau_expert) * inverse_or_zero(expert_norm[e]);
    team.each(cols, [=](int64_t i) { out[i] += pull * in[i]; });
  }
};

}  // namespace moxie::moe
