// SPDX-License-Identifier: Apache-2.0
// Matrix products: plain, batched, by a layer's weight, and grouped by expert.
#pragma once
#include <initializer_list>
#include <span>
#include <string_view>

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
// The product of all operands summed over the labels that the result lacks: "bthd,bshd->bhts" is
// z[b, h, t, s] = sum over d of x[b, t, h, d] y[b, s, h, d]. A letter labels a dimension, "..." all that have no
// letter; spaces don't count. Without "->" the result has "...", then the letters that occur once, in alphabetical
// order. A label must have one size everywhere and may occur once in an operand (no diagonals). Operands are taken from
// the left in pairs, each a matmul, or a product of elements where nothing is summed.
Tensor einsum(std::string_view equation, std::span<const Tensor> operands);
Tensor einsum(std::string_view equation, std::initializer_list<Tensor> operands);

}  // namespace moxie
