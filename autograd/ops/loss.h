// SPDX-License-Identifier: Apache-2.0
// Losses that a model is trained on. All give f32 (f64 for f64 inputs), for bf16 too. Of two arguments that are both
// tensors both get a gradient: detach() a target that should get none.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// What becomes of the single losses: their mean (0 where there are none), their sum, or all of them.
enum class Reduction { mean, sum, none };

// Mean of -log softmax(logits)[target] over the targets that aren't `ignore_index` -> scalar in f32 (f64 for f64);
// 0 with zero gradient where all are ignored. logits [.., classes], targets [..] (i32). The ignored index may be a
// class.
Tensor cross_entropy(const Tensor& logits, const Array& targets, int64_t ignore_index = -100);

// How many bytes of logits linear_cross_entropy holds at once.
inline constexpr int64_t linear_cross_entropy_bytes = int64_t{256} << 20;

// cross_entropy(linear(x, weight), targets) -> scalar, for x [.., width], weight [classes, width] and targets [..],
// without ever holding all logits: at most `logit_bytes` of them (one row at least), in pieces that the shape alone
// fixes. Where a gradient is wanted, it is computed piece by piece in the forward pass already, so no logit is computed
// twice; the graph holds the gradients of x and weight until backward, which scales them.
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Array& targets, int64_t ignore_index = -100,
                            int64_t logit_bytes = linear_cross_entropy_bytes);

struct CrossEntropyOptions {
  double label_smoothing = 0;  // the part of the target that is spread evenly over all classes, from 0 to 1
  Array class_weights = {};    // [classes], f32 (f64 for f64 logits), not negative; undefined: 1
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::mean;
};
// The same with smoothed targets and weighted classes: (1 - s) w_t l_t + s / classes sum_c w_c l_c for target t, with
// l_c = -log softmax(logits)_c. The mean divides by the sum of the targets' weights w_t, ignored ones left out, as
// PyTorch's does; 0 with zero gradient where that sum is 0. Reduction::none gives [..], 0 where ignored.
Tensor cross_entropy(const Tensor& logits, const Array& targets, const CrossEntropyOptions& options);

// (prediction - target)^2; prediction and target of one shape.
Tensor mse_loss(const Tensor& prediction, const Tensor& target, Reduction reduction = Reduction::mean);
// |prediction - target|; gradient 0 where both are equal.
Tensor l1_loss(const Tensor& prediction, const Tensor& target, Reduction reduction = Reduction::mean);
// With d = |prediction - target|: d^2 / 2 where d <= delta, delta (d - delta / 2) beyond. delta must be positive.
Tensor huber_loss(const Tensor& prediction, const Tensor& target, double delta = 1,
                  Reduction reduction = Reduction::mean);
// -(positive_weight y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))) for logits x and targets y in [0, 1] of one shape,
// without overflow. positive_weight, f32 (f64 for f64), is one number or one for each element of the last dimension.
Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& targets, const Array& positive_weight = {},
                                        Reduction reduction = Reduction::mean);
// -(y log p + (1 - y) log(1 - p)) for probabilities p and targets y in [0, 1] of one shape; logarithms below -100 count
// as -100. The form with logits is the more exact one.
Tensor binary_cross_entropy(const Tensor& probabilities, const Tensor& targets, Reduction reduction = Reduction::mean);
// KL(P || Q) = sum p (log p - log q) over the last dimension, from log-probabilities (log_softmax) of one shape
// [.., classes]; the mean is over the distributions, Reduction::none gives [..]. To distil, P is the teacher and Q the
// student. Terms with p = 0 are 0.
Tensor kl_divergence(const Tensor& log_p, const Tensor& log_q, Reduction reduction = Reduction::mean);

}  // namespace moxie
