// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/index/gather.h"

#include "autograd/ops/common.h"
#include "autograd/ops/index.h"

namespace moxie {
namespace {

// dx += dy scattered to index: the transpose of gather
void scatter_add(const Array& index, const Array& dy, const Array& dx, int64_t dim) {
  const Shape& shape = dx.shape();
  const int64_t outer = shape.product(0, dim), inner = shape.product(dim + 1, shape.rank()), count = index.shape()[dim];
  dispatch_float("gather", dx.dtype(), [&]<class T>(T) {
    const GatherBackward<T> kernel{index.data<int32_t>(), dy.data<T>(), dx.data<T>(), shape[dim], count, inner};
    for_rows(dx.device(), kernel, outer, count * inner);
  });
}

}  // namespace

Tensor gather(const Tensor& x, int64_t dim, const Array& index) {
  const OpRange range("gather");
  dim = normalize_dim("gather", dim, x.shape());
  check(index.shape().rank() == x.shape().rank() && index.shape().with(dim, 0) == x.shape().with(dim, 0),
        "gather: index must have x's shape but for dimension {}, got x {} and index {}", dim, x.shape(), index.shape());
  check_indices("gather", index, x.dim(dim), x.device());
  const Shape& shape = x.shape();
  const int64_t outer = shape.product(0, dim), inner = shape.product(dim + 1, shape.rank()), count = index.shape()[dim];
  const Array y = Array::empty(index.shape(), x.options());
  dispatch_float("gather", x.dtype(), [&]<class T>(T) {
    const Gather<T> kernel{x.value().data<T>(), index.data<int32_t>(), y.data<T>(), shape[dim], count, inner};
    for_rows(x.device(), kernel, outer, count * inner);
  });
  return record("gather", y, {x}, [index, dim, shape](std::span<const Array> dy, Grads& grads) {
    if (dy[0].dtype() == Dtype::bf16) {  // what meets in one place adds up in f32
      const Array wide = Array::zeros(shape, {Dtype::f32, dy[0].device()});
      scatter_add(index, dy[0].to(Dtype::f32), wide, dim);
      return grads.give(0, wide);
    }
    const Grads::Target dx = grads.into(0);
    if (!dx.accumulate) dx.array.fill(0);
    scatter_add(index, dy[0], dx.array, dim);
  });
}

}  // namespace moxie
