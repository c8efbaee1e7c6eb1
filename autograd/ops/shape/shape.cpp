// SPDX-License-Identifier: Apache-2.0
// reshape, squeeze, unsqueeze and slice
#include "autograd/ops/shape.h"
#include "autograd/ops/common.h"
#include "autograd/ops/shape/strided.h"

namespace moxie {

Tensor reshape(const Tensor& x, const Shape& shape) {
  const OpRange range("reshape");
  return record("reshape", x.value().reshape(shape), {x},
                [from = x.shape()](std::span<const Array> dy, Grads& grads) { grads.give(0, dy[0].reshape(from)); });
}
Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes) {
  return reshape(x, x.value().reshape(sizes).shape());
}

Tensor squeeze(const Tensor& x, int64_t dim) {
  dim = normalize_dim("squeeze", dim, x.shape());
  check(x.dim(dim) == 1, "squeeze: dimension {} of {} must have size 1", dim, x.shape());
  return reshape(x, x.shape().without(dim));
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  const int64_t rank = x.shape().rank();
  check(dim >= -rank - 1 && dim <= rank, "unsqueeze: place {} is out of range for shape {}", dim, x.shape());
  return reshape(x, x.shape().inserted(dim < 0 ? dim + rank + 1 : dim, 1));
}

Tensor slice(const Tensor& x, int64_t dim, int64_t first, int64_t count) {
  const OpRange range("slice");
  dim = normalize_dim("slice", dim, x.shape());
  check(first >= 0 && count >= 0 && first + count <= x.dim(dim),
        "slice: [{}, {}) is out of range for dimension {} of {}", first, first + count, dim, x.shape());
  const Shape& shape = x.shape();
  const int64_t outer = shape.product(0, dim), inner = shape.product(dim + 1, shape.rank());
  const Lines within{first * inner, shape[dim] * inner}, alone{0, count * inner};
  const Array y = Array::empty(shape.with(dim, count), x.options());
  copy_lines(x.value(), within, y, alone, outer, count * inner, false);
  return record("slice", y, {x}, [=](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    if (!dx.accumulate) dx.array.fill(0);
    copy_lines(dy[0], alone, dx.array, within, outer, count * inner, dx.accumulate);
  });
}

}  // namespace moxie
