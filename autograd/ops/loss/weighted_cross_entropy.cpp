// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/loss/weighted_cross_entropy.h"

#include "autograd/ops/loss/common.h"

namespace moxie {
namespace {

struct Problem {
  Array x, targets, weights, weight_total;
  int32_t ignored;
  double smoothing;
  int64_t rows, cols;
  template <class V> const V* weight_numbers() const { return weights.defined() ? weights.data<V>() : nullptr; }
};

Problem check_problem(const Tensor& logits, const Array& targets, const CrossEntropyOptions& options) {
  const int32_t ignored = check_targets(logits, targets, options.ignore_index);
  const double smoothing = options.label_smoothing;
  check(smoothing >= 0 && smoothing <= 1, "cross_entropy: label_smoothing must be from 0 to 1, got {}", smoothing);
  const Options statistics{statistics_dtype(logits.dtype()), logits.device()};
  const Array& weights = options.class_weights;
  const int64_t cols = logits.dim(-1);
  if (!weights.defined()) {
    const Array total = Array::full(Shape{}, static_cast<double>(cols), statistics);
    return {logits.value(), targets, {}, total, ignored, smoothing, targets.numel(), cols};
  }
  check(weights.options() == statistics,
        "cross_entropy: for logits in {} on {} class_weights must be {} there, got {} on {}", name_of(logits.dtype()),
        logits.device().name(), name_of(statistics.dtype), name_of(weights.dtype()), weights.device().name());
  check(weights.shape() == Shape({cols}), "cross_entropy: class_weights must be [classes], got logits {} and {}",
        logits.shape(), weights.shape());
  const Array total = reduce_sum(weights, 1, cols, 1);
  return {logits.value(), targets, weights, total, ignored, smoothing, targets.numel(), cols};
}

void gradient(const Problem& p, const Array& lse, const Array& count, const Array& dloss, const Grads::Target& dx) {
  dispatch_float("backward", p.x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const WeightedCrossEntropyBackward<T> kernel{p.x.data<T>(),
                                                 p.targets.data<int32_t>(),
                                                 p.weight_numbers<V>(),
                                                 p.weight_total.data<V>(),
                                                 lse.data<V>(),
                                                 count.defined() ? count.data<V>() : nullptr,
                                                 dloss.data<V>(),
                                                 dx.data<T>(),
                                                 p.cols,
                                                 p.ignored,
                                                 V(p.smoothing),
                                                 dloss.shape().rank() > 0,
                                                 dx.accumulate};
    for_rows(p.x.device(), kernel, p.rows, p.cols);
  });
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Array& targets, const CrossEntropyOptions& options) {
  const OpRange range("cross_entropy");
  const bool mean = options.reduction == Reduction::mean;
  if (mean && options.label_smoothing == 0 && !options.class_weights.defined())
    return cross_entropy(logits, targets, options.ignore_index);
  const Problem p = check_problem(logits, targets, options);
  const Options statistics = p.weight_total.options();
  const Array lse = Array::empty({p.rows}, statistics), parts = Array::empty({2, p.rows}, statistics);
  dispatch_float("cross_entropy", logits.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const WeightedCrossEntropy<T> kernel{p.x.data<T>(),
                                         p.targets.data<int32_t>(),
                                         p.weight_numbers<V>(),
                                         lse.data<V>(),
                                         parts.data<V>(),
                                         parts.data<V>() + p.rows,
                                         p.cols,
                                         p.ignored,
                                         V(p.smoothing)};
    for_rows(logits.device(), kernel, p.rows, p.cols);
  });
  Array loss = parts.rows(0, 1).reshape(targets.shape()), count;
  if (options.reduction == Reduction::sum) loss = scaled_total(loss, 1);
  if (mean) {
    const Array totals = reduce_sum(parts, 2, p.rows, 1);  // the losses and their weights
    loss = Array::empty({}, statistics), count = Array::empty({}, statistics);
    mean_loss(totals, count, loss);
  }
  return record("cross_entropy", loss, {logits}, [p, lse, count](std::span<const Array> dy, Grads& grads) {
    gradient(p, lse, count, dy[0], grads.into(0));
  });
}

}  // namespace moxie
