// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/loss/kl_divergence.h"

#include "autograd/ops/loss/common.h"

namespace moxie {
namespace {

template <bool by_q>
void gradient(Grads& grads, size_t i, const Array& log_p, const Array& log_q, const Array& dloss, Reduction reduction) {
  if (!grads.needs(i)) return;
  const Grads::Target target = grads.into(i);
  const int64_t rows = log_p.shape().rows(), cols = log_p.shape().cols();
  dispatch_float("backward", log_p.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const KlDivergenceBackward<by_q, T> kernel{log_p.data<T>(),
                                               log_q.data<T>(),
                                               dloss.data<V>(),
                                               target.data<T>(),
                                               cols,
                                               V(reduction_scale(reduction, rows)),
                                               reduction == Reduction::none,
                                               target.accumulate};
    for_rows(log_p.device(), kernel, rows, cols);
  });
}

}  // namespace

Tensor kl_divergence(const Tensor& log_p, const Tensor& log_q, Reduction reduction) {
  const OpRange range("kl_divergence");
  check_same_kind("kl_divergence", log_p.value(), "log_p", log_q.value(), "log_q");
  const Shape& shape = log_p.shape();
  check(shape == log_q.shape() && shape.rank() >= 1,
        "kl_divergence: log_p and log_q must have one shape [.., classes], got {} and {}", shape, log_q.shape());
  const int64_t rows = shape.rows(), cols = shape.cols();
  const Array each = Array::empty(shape.without(shape.rank() - 1), {statistics_dtype(log_p.dtype()), log_p.device()});
  dispatch_float("kl_divergence", log_p.dtype(), [&]<class T>(T) {
    const KlDivergence<T> kernel{log_p.value().data<T>(), log_q.value().data<T>(), each.data<Accumulator<T>>(), cols};
    for_rows(log_p.device(), kernel, rows, cols);
  });
  const Array loss = reduction == Reduction::none ? each : scaled_total(each, reduction_scale(reduction, rows));
  return record("kl_divergence", loss, {log_p, log_q},
                [p = log_p.value(), q = log_q.value(), reduction](std::span<const Array> dy, Grads& grads) {
                  gradient<false>(grads, 0, p, q, dy[0], reduction);
                  gradient<true>(grads, 1, p, q, dy[0], reduction);
                });
}

}  // namespace moxie
