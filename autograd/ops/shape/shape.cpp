// SPDX-License-Identifier: Apache-2.0
// reshape, concat and slice
#include <algorithm>

#include "autograd/ops/common.h"
#include "autograd/ops/shape.h"
#include "core/kernels/shape/strided_copy.h"

namespace moxie {
namespace {

void copy_rows(const std::byte* x, int64_t x_stride, const Array& y, int64_t y_first, int64_t y_stride, int64_t rows,
               int64_t cols, bool accumulate) {
  if (rows * cols == 0) return;
  dispatch(y.dtype(), [&]<class T>(T) {
    const CopyRows<T> kernel{
        reinterpret_cast<const T*>(x), x_stride, y.data<T>() + y_first, y_stride, cols, accumulate};
    for_rows(y.device(), kernel, rows, cols);
  });
}

// Elements [first, first + count) along `dim` of x
Array sliced(const Array& x, int64_t dim, int64_t first, int64_t count) {
  const Shape& shape = x.shape();
  const int64_t outer = shape.product(0, dim), inner = shape.product(dim + 1, shape.rank());
  const Array y = Array::empty(shape.with(dim, count), x.options());
  copy_rows(x.raw() + first * inner * size_of(x.dtype()), shape[dim] * inner, y, 0, count * inner, outer, count * inner,
            false);
  return y;
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  return record("reshape", x.value().reshape(shape), {x},
                [from = x.shape()](std::span<const Array> dy, Grads& grads) { grads.give(0, dy[0].reshape(from)); });
}
Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes) {
  return reshape(x, x.value().reshape(sizes).shape());
}

Tensor slice(const Tensor& x, int64_t dim, int64_t first, int64_t count) {
  dim = normalize_dim("slice", dim, x.shape());
  check(first >= 0 && count >= 0 && first + count <= x.dim(dim),
        "slice: [{}, {}) is out of range for dimension {} of {}", first, first + count, dim, x.shape());
  return record("slice", sliced(x.value(), dim, first, count), {x},
                [=, shape = x.shape()](std::span<const Array> dy, Grads& grads) {
                  const Grads::Target dx = grads.into(0);
                  if (!dx.accumulate) dx.array.fill(0);
                  const int64_t outer = shape.product(0, dim), inner = shape.product(dim + 1, shape.rank());
                  copy_rows(dy[0].raw(), count * inner, dx.array, first * inner, shape[dim] * inner, outer,
                            count * inner, dx.accumulate);
                });
}

Tensor concat(std::span<const Tensor> inputs, int64_t dim) {
  check(!inputs.empty(), "concat: needs at least one tensor");
  const Shape& shape = inputs[0].shape();
  dim = normalize_dim("concat", dim, shape);
  int64_t total = 0;
  std::vector<int64_t> counts;
  for (const Tensor& input : inputs) {
    check_same_kind("concat", inputs[0].value(), "the first tensor", input.value(), "another");
    check(input.shape().rank() == shape.rank() && input.shape().with(dim, 0) == shape.with(dim, 0),
          "concat: shapes must agree but for dimension {}, got {} and {}", dim, shape, input.shape());
    counts.push_back(input.dim(dim));
    total += counts.back();
  }
  const Array y = Array::empty(shape.with(dim, total), inputs[0].options());
  const int64_t outer = shape.product(0, dim), inner = shape.product(dim + 1, shape.rank());
  int64_t first = 0;
  for (const Tensor& input : inputs) {
    const int64_t cols = input.dim(dim) * inner;
    copy_rows(input.value().raw(), cols, y, first, total * inner, outer, cols, false);
    first += cols;
  }
  return record("concat", y, inputs, [counts, dim](std::span<const Array> dy, Grads& grads) {
    int64_t start = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      if (grads.needs(i)) grads.give(i, sliced(dy[0], dim, start, counts[i]));
      start += counts[i];
    }
  });
}

Tensor concat(std::initializer_list<Tensor> inputs, int64_t dim) {
  return concat(std::span<const Tensor>(inputs.begin(), inputs.size()), dim);
}

}  // namespace moxie
