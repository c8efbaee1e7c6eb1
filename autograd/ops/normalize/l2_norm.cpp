// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/normalize/l2_norm.h"

#include "autograd/ops/common.h"
#include "autograd/ops/normalize.h"

namespace moxie {

Tensor l2_norm(const Tensor& x, double offset) {
  const OpRange range("l2_norm");
  check(x.shape().rank() >= 1, "l2_norm: needs at least one dimension, got a scalar");
  check(offset >= 0, "l2_norm: offset must not be negative, got {}", offset);
  const int64_t rows = x.shape().rows(), cols = x.dim(-1);
  const Array y = Array::empty(x.shape().without(x.shape().rank() - 1), x.options());
  dispatch_float("l2_norm", x.dtype(), [&]<class T>(T) {
    const L2Norm<T> kernel{x.value().data<T>(), y.data<T>(), cols, Accumulator<T>(offset)};
    for_rows(x.device(), kernel, rows, cols);
  });
  return record("l2_norm", y, {x}, [x = x.value(), rows, cols](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", x.dtype(), [&]<class T>(T) {
      const L2NormBackward<T> kernel{x.data<T>(), dy[0].data<T>(), dx.data<T>(), cols, dx.accumulate};
      for_rows(x.device(), kernel, rows, cols);
    });
  });
}

}  // namespace moxie
