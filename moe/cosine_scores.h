// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "autograd/tensor.h"

namespace moxie::moe {

// Scores of the cosine router: scale * x.r / ((|x| + tau_token) (|r| + tau_expert)) for tokens x [tokens, width] and
// experts' rows r of weight [experts, width] -> [tokens, experts]. arXiv 2405.14131: Eq. 2 with both tau 0, Eq. 9 with
// tau_expert = tau_1 and tau_token = tau_2 positive constants. Where a denominator is 0, score and gradient are 0.
// f32 or f64. Throws std::invalid_argument for a negative tau, other dtypes, or shapes that don't fit.
Tensor cosine_scores(const Tensor& x, const Tensor& weight, double tau_expert, double tau_token, double scale = 1);

}  // namespace moxie::moe
