// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/reduce/logsumexp.h"

#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"

namespace moxie {
namespace {

// Over the last dimension: [rows, n] -> [rows]
Tensor logsumexp_rows(const Tensor& x, const Shape& shape) {
  const OpRange range("logsumexp");
  const int64_t rows = x.shape().rows(), n = x.dim(-1);
  const Array y = Array::empty(shape, x.options());
  const Array exact = x.dtype() == Dtype::bf16 ? Array::empty(shape, {Dtype::f32, x.device()}) : y;
  dispatch_float("logsumexp", x.dtype(), [&]<class T>(T) {
    const LogSumExp<T> kernel{x.value().data<T>(), y.data<T>(), exact.data<Accumulator<T>>(), n};
    for_rows(x.device(), kernel, rows, n);
  });
  return record("logsumexp", y, {x}, [x = x.value(), exact, rows, n](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", x.dtype(), [&]<class T>(T) {
      const LogSumExpBackward<T> kernel{x.data<T>(),  exact.data<Accumulator<T>>(), dy[0].data<T>(), dx.data<T>(), n,
                                        dx.accumulate};
      for_rows(x.device(), kernel, rows, n);
    });
  });
}

}  // namespace

Tensor logsumexp(const Tensor& x, int64_t dim, bool keep) {
  dim = normalize_dim("logsumexp", dim, x.shape());
  const Shape shape = keep ? x.shape().with(dim, 1) : x.shape().without(dim);
  if (dim == x.shape().rank() - 1) return logsumexp_rows(x, shape);
  const Tensor last = transpose(x, dim, -1);
  const Tensor rows = logsumexp_rows(last, last.shape().with(-1, 1));
  return reshape(transpose(rows, dim, -1), shape);
}

}  // namespace moxie
