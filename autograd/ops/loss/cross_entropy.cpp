// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/loss/cross_entropy.h"

#include <utility>

#include "autograd/ops/loss/common.h"

namespace moxie {

int32_t check_targets(const Tensor& logits, const Array& targets, int64_t ignore_index) {
  check(logits.shape().rank() >= 1 && targets.shape() == logits.shape().without(logits.shape().rank() - 1),
        "cross_entropy: targets must have the logits' shape without the last dimension, got logits {} and targets {}",
        logits.shape(), targets.shape());
  check(logits.dim(-1) > 0, "cross_entropy: there must be at least one class, got logits {}", logits.shape());
  // Beyond the range of i32 no target can be meant, nor can one be -1 after the check.
  const int32_t ignored = std::in_range<int32_t>(ignore_index) ? static_cast<int32_t>(ignore_index) : -1;
  check_indices("cross_entropy", targets, logits.dim(-1), logits.device(),
                ignored == ignore_index ? std::optional(ignored) : std::nullopt);
  return ignored;
}

void mean_loss(const Array& totals, const Array& count, const Array& loss) {
  const auto launch = [&]<class V>(V) {
    for_rows(totals.device(), MeanLoss<V>{totals.data<V>(), count.data<V>(), loss.data<V>()}, 1, 1);
  };
  totals.dtype() == Dtype::f64 ? launch(double{}) : launch(float{});
}

Tensor cross_entropy(const Tensor& logits, const Array& targets, int64_t ignore_index) {
  const OpRange range("cross_entropy");
  const int32_t ignored = check_targets(logits, targets, ignore_index);
  const int64_t rows = targets.numel(), cols = logits.dim(-1);
  const Options statistics{statistics_dtype(logits.dtype()), logits.device()};
  const Array lse = Array::empty({rows}, statistics), parts = Array::empty({2, rows}, statistics);
  dispatch_float("cross_entropy", logits.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const CrossEntropy<T> kernel{logits.value().data<T>(),
                                 targets.data<int32_t>(),
                                 lse.data<V>(),
                                 parts.data<V>(),
                                 parts.data<V>() + rows,
                                 cols,
                                 ignored};
    for_rows(logits.device(), kernel, rows, cols);
  });
  const Array totals = reduce_sum(parts, 2, rows, 1);  // the losses and their count
  const Array loss = Array::empty({}, statistics), count = Array::empty({}, statistics);
  mean_loss(totals, count, loss);
  return record(
      "cross_entropy", loss, {logits},
      [x = logits.value(), targets, lse, count, rows, cols, ignored](std::span<const Array> dy, Grads& grads) {
        const Grads::Target dx = grads.into(0);
        dispatch_float("backward", x.dtype(), [&]<class T>(T) {
          using V = Accumulator<T>;
          const CrossEntropyBackward<T> kernel{x.data<T>(),
                                               targets.data<int32_t>(),
                                               lse.data<V>(),
                                               count.data<V>(),
                                               dy[0].data<V>(),
                                               dx.data<T>(),
                                               cols,
                                               ignored,
                                               dx.accumulate};
          for_rows(x.device(), kernel, rows, cols);
        });
      });
}

}  // namespace moxie
