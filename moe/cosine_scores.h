// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "moe/choose.h"

namespace moxie::moe {

// Scores of the cosine router: scale * x.r / ((|x| + tau_token) (|r| + tau_expert)) for tokens x [tokens, width] and
// experts' rows r of weight [experts, width] -> [tokens, experts]. arXiv 2405.14131: Eq. 2 with both tau 0, Eq. 9 with
// tau_expert = tau_1 and tau_token = tau_2 positive constants. Where a denominator is 0, score and gradient are 0.
// f32 or f64. Throws std::invalid_argument for a negative tau, other dtypes, or shapes that don't fit.
Tensor cosine_scores(const Tensor& x, const Tensor& weight, double tau_expert, double tau_token, double scale = 1);

// Scores and the experts that they choose: cosine_scores(), and choose_experts() from those scores, seen and weighed
// alike, with one kernel for both behind the matmul, and in front of its gradients. The same bits as from the two
// forward; what they throw, in its own name.
struct ScoredChoice {
  Tensor scores;
  Choice choice;
};
struct CosineOptions {
  double tau_expert = 0, tau_token = 0, scale = 1;
};
ScoredChoice cosine_choice(const Tensor& x, const Tensor& weight, const CosineOptions& options, const Tensor& bias,
                           int64_t top_k, bool over_all);

}  // namespace moxie::moe
