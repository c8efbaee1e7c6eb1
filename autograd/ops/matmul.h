// SPDX-License-Identifier: Apache-2.0
// Matrix products: plain, batched, by a layer's weight, and grouped by expert.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// x [.., m, k] times y [.., k, n] -> [.., m, n]; equal leading dimensions, or y is a matrix shared by all of them.
// A transposed operand is given as [.., k, m] or [.., n, k].
struct MatmulOptions {
  bool transpose_x = false;
  bool transpose_y = false;
};
Tensor matmul(const Tensor& x, const Tensor& y, MatmulOptions options = {});
// x [.., in] times weight [out, in] transposed, plus bias [out] where defined -> [.., out]. x and weight may be bf16
// while the weight's gradient is kept in f32.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
// x [rows, in], sorted by group, times weight [groups, out, in] transposed -> [rows, out]. offsets [groups + 1] (i32)
// says that group g has rows [offsets[g], offsets[g + 1]); empty groups get zero gradients.
Tensor grouped_matmul(const Tensor& x, const Tensor& weight, const Array& offsets);

}  // namespace moxie
