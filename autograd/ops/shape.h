// SPDX-License-Identifier: Apache-2.0
// The same elements in another shape or order, repeated, cut or joined. These ops also move i32 and u8.
#pragma once
#include <initializer_list>
#include <span>
#include <vector>

#include "autograd/tensor.h"

namespace moxie {

Tensor reshape(const Tensor& x, const Shape& shape);
Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes);  // one size may be -1
// Without dimension `dim`, which must have size 1.
Tensor squeeze(const Tensor& x, int64_t dim);
// With a dimension of size 1 before dimension `dim`; -1 appends it.
Tensor unsqueeze(const Tensor& x, int64_t dim);
Tensor permute(const Tensor& x, std::initializer_list<int64_t> order);
Tensor permute(const Tensor& x, std::span<const int64_t> order);
Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
// In reverse order along each of `dims`.
Tensor flip(const Tensor& x, std::span<const int64_t> dims);
Tensor flip(const Tensor& x, std::initializer_list<int64_t> dims);
Tensor concat(std::span<const Tensor> inputs, int64_t dim);
Tensor concat(std::initializer_list<Tensor> inputs, int64_t dim);
// Tensors of one shape side by side along a new dimension `dim` of the result.
Tensor stack(std::span<const Tensor> inputs, int64_t dim = 0);
Tensor stack(std::initializer_list<Tensor> inputs, int64_t dim = 0);
// Elements [first, first + count) of dimension `dim`.
Tensor slice(const Tensor& x, int64_t dim, int64_t first, int64_t count);
// x cut along `dim` into parts of the given sizes, which make it up, or into `parts` equal ones.
std::vector<Tensor> split(const Tensor& x, std::span<const int64_t> sizes, int64_t dim);
std::vector<Tensor> split(const Tensor& x, std::initializer_list<int64_t> sizes, int64_t dim);
std::vector<Tensor> split(const Tensor& x, int64_t parts, int64_t dim);
// x with `before` and `after` elements of `value` around it along each dimension.
struct PadWidth {
  int64_t before = 0, after = 0;
};
Tensor pad(const Tensor& x, std::span<const PadWidth> widths, double value = 0);
Tensor pad(const Tensor& x, std::initializer_list<PadWidth> widths, double value = 0);
// x repeated to `shape` by NumPy's rule: counted from the last dimension, sizes are equal, or x's is 1 or missing.
Tensor broadcast_to(const Tensor& x, const Shape& shape);
// times[i] copies of x along each dimension i.
Tensor tile(const Tensor& x, std::span<const int64_t> times);
Tensor tile(const Tensor& x, std::initializer_list<int64_t> times);

}  // namespace moxie
