// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/normalize/softmax.h"

#include "autograd/ops/common.h"
#include "autograd/ops/normalize.h"

namespace moxie {
namespace {

template <template <class> class Kernel, template <class> class BackwardKernel>
Tensor row_op(const char* op, const Tensor& x) {
  const OpRange range(op);
  check(x.shape().rank() >= 1, "{}: needs at least one dimension, got a scalar", op);
  const int64_t rows = x.shape().rows(), cols = x.dim(-1);
  const Array y = Array::empty(x.shape(), x.options());
  dispatch_float(op, x.dtype(), [&]<class T>(T) {
    for_rows(x.device(), Kernel<T>{x.value().data<T>(), y.data<T>(), cols}, rows, cols);
  });
  return record(op, y, {x}, [y, rows, cols](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", y.dtype(), [&]<class T>(T) {
      const BackwardKernel<T> kernel{y.data<T>(), dy[0].data<T>(), dx.data<T>(), cols, dx.accumulate};
      for_rows(y.device(), kernel, rows, cols);
    });
  });
}

}  // namespace

Tensor softmax(const Tensor& x) { return row_op<Softmax, SoftmaxBackward>("softmax", x); }
Tensor log_softmax(const Tensor& x) { return row_op<LogSoftmax, LogSoftmaxBackward>("log_softmax", x); }

}  // namespace moxie
