// SPDX-License-Identifier: Apache-2.0
// The same elements in another shape or order.
#pragma once
#include <initializer_list>
#include <span>

#include "autograd/tensor.h"

namespace moxie {

Tensor reshape(const Tensor& x, const Shape& shape);
Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes);  // one size may be -1
Tensor permute(const Tensor& x, std::initializer_list<int64_t> order);
Tensor permute(const Tensor& x, std::span<const int64_t> order);
Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
Tensor concat(std::span<const Tensor> inputs, int64_t dim);
Tensor concat(std::initializer_list<Tensor> inputs, int64_t dim);
// Elements [first, first + count) of dimension `dim`.
Tensor slice(const Tensor& x, int64_t dim, int64_t first, int64_t count);

}  // namespace moxie
