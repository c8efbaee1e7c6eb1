// SPDX-License-Identifier: Apache-2.0
// Over the last dimension: softmax and norms.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

Tensor softmax(const Tensor& x);
Tensor log_softmax(const Tensor& x);
// x / sqrt(mean(x^2) + epsilon) * weight [width]; weight is f32, or f64 for f64
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon = 1e-5);
// A residual connection and the norm behind it in one pass over memory: sum = x + branch, of one shape and dtype, and
// y = rms_norm(sum, weight, epsilon). What the next branch gets is y, what it is added to is sum. A branch that is
// handed over (std::move) and that nothing else shares may end with its memory in sum.
struct NormedSum {
  Tensor sum, y;
};
NormedSum add_rms_norm(const Tensor& x, Tensor branch, const Tensor& weight, double epsilon = 1e-5);
// (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight + bias over the last dimension. weight and bias [width] are
// f32, or f64 for f64; undefined ones stand for 1 and 0.
Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {}, double epsilon = 1e-5);
// |x| + offset of each row -> [..]; gradient 0 where |x| = 0
Tensor l2_norm(const Tensor& x, double offset = 0);

}  // namespace moxie
