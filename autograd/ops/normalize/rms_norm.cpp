// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/normalize/rms_norm.h"

#include "autograd/ops/common.h"
#include "autograd/ops/normalize.h"
#include "core/reduce.h"

namespace moxie {
namespace {

template <class T> Array weight_gradient(const Array& x, const Array& rstd, const Array& dy) {
  const int64_t rows = x.shape().rows(), cols = x.shape().cols(), chunk = lines_of_chunk(x.device());
  const int64_t chunks = (rows + chunk - 1) / chunk;
  const Array partial = Array::empty({chunks, cols}, rstd.options());
  using V = Accumulator<T>;
  const RmsNormWeightPartial<T> kernel{x.data<T>(), rstd.data<V>(), dy.data<T>(), partial.data<V>(), rows, cols, chunk};
  for_rows(x.device(), kernel, chunks, chunk * cols);
  return reduce_sum(partial, 1, chunks, cols).reshape({cols});
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  const OpRange range("rms_norm");
  check(x.shape().rank() >= 1 && weight.shape() == Shape({x.shape().cols()}),
        "rms_norm: weight must be [width], got x {} and weight {}", x.shape(), weight.shape());
  check(weight.device() == x.device() && weight.dtype() == statistics_dtype(x.dtype()),
        "rms_norm: for x in {} on {} the weight must be {} there, got {} on {}", name_of(x.dtype()), x.device().name(),
        name_of(statistics_dtype(x.dtype())), name_of(weight.dtype()), weight.device().name());
  check(epsilon >= 0, "rms_norm: epsilon must not be negative, got {}", epsilon);
  const int64_t rows = x.shape().rows(), cols = x.dim(-1);
  const Array y = Array::empty(x.shape(), x.options());
  const Array rstd = Array::empty({rows}, weight.options());
  dispatch_float("rms_norm", x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const RmsNorm<T> kernel{x.value().data<T>(), weight.value().data<V>(), y.data<T>(), rstd.data<V>(), cols,
                            V(epsilon)};
    for_rows(x.device(), kernel, rows, cols);
  });
  return record("rms_norm", y, {x, weight},
                [x = x.value(), w = weight.value(), rstd, rows, cols](std::span<const Array> dy, Grads& grads) {
                  dispatch_float("backward", x.dtype(), [&]<class T>(T) {
                    using V = Accumulator<T>;
                    if (grads.needs(1)) grads.give(1, weight_gradient<T>(x, rstd, dy[0]));
                    if (!grads.needs(0)) return;
                    const Grads::Target dx = grads.into(0);
                    const RmsNormBackward<T> kernel{x.data<T>(),  w.data<V>(), rstd.data<V>(), dy[0].data<T>(),
                                                    dx.data<T>(), cols,        dx.accumulate};
                    for_rows(x.device(), kernel, rows, cols);
                  });
                });
}

}  // namespace moxie
