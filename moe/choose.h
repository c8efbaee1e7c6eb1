// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "autograd/tensor.h"

namespace moxie::moe {

struct Choice {
  Tensor weights;  // [tokens, top_k]
  Array experts;   // [tokens, top_k] i32, best first
};

// The top_k experts of each token by `seen` [tokens, experts], ties to the lowest, and their weights: the softmax of
// weighed + bias over the chosen, or over all experts with `over_all`. `weighed` may be `seen`; bias [experts] may be
// undefined. No gradient flows to `seen` as such. f32 or f64. Equal to the composition of top_k, gather, add and
// softmax, in one kernel each way.
Choice choose_experts(const Tensor& seen, const Tensor& weighed, const Tensor& bias, int64_t top_k, bool over_all);

namespace detail {
// Throws, in the name of `op`, where `scores` and `bias` can't be chosen from.
void check_choice(const char* op, const Tensor& scores, const Tensor& bias, int64_t top_k);
}  // namespace detail

}  // namespace moxie::moe
