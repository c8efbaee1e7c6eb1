// SPDX-License-Identifier: Apache-2.0
#include "core/sort.h"

#include "autograd/ops/common.h"
#include "autograd/ops/index.h"
#include "core/kernels/index/gather.h"

namespace moxie {

Sorted sort(const Tensor& x, SortOptions options) {
  const OpRange range("sort");
  check(x.shape().rank() >= 1, "sort: needs at least one dimension, got a scalar");
  check(is_float(x.dtype()), "sort: needs a float dtype (f64, f32 or bf16), got {}", name_of(x.dtype()));
  const Array values = Array::empty(x.shape(), x.options());
  const Array indices = Array::empty(x.shape(), {Dtype::i32, x.device()});
  sort_rows(x.value(), options.descending, values, indices);
  const Tensor result = record("sort", values, {x}, [indices](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    if (!dx.accumulate) dx.array.fill(0);
    const int64_t rows = indices.shape().rows(), n = indices.shape().cols();
    dispatch_float("backward", dx.array.dtype(), [&]<class T>(T) {
      const GatherBackward<T> kernel{indices.data<int32_t>(), dy[0].data<T>(), dx.data<T>(), n, n, 1};
      for_rows(dx.array.device(), kernel, rows, n);
    });
  });
  return {result, indices};
}

}  // namespace moxie
