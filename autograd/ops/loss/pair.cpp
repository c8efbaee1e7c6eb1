// SPDX-License-Identifier: Apache-2.0
// Losses of a prediction and a target, element by element.
#include "core/kernels/loss/pair.h"

#include <algorithm>

#include "autograd/ops/loss/common.h"

namespace moxie {
namespace {

struct Names {
  const char *op, *x, *y;
};

// One number for all elements, or a table that repeats along rows of `chunk` elements.
struct Constants {
  double value = 1;
  Array table = {};
  int64_t chunk = elementwise_row;
};

template <class V> const V* numbers(const Array& array) { return array.defined() ? array.data<V>() : nullptr; }

// dx, or with by_y dy, of the losses.
template <class Loss, bool by_y>
void pair_gradient(Grads& grads, size_t i, const Array& x, const Array& y, const Array& dloss,
                   const Constants& constants, Reduction reduction) {
  if (!grads.needs(i)) return;
  const Grads::Target target = grads.into(i);
  const int64_t numel = x.numel(), chunk = constants.chunk;
  dispatch_float("backward", x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const PairLossBackward<Loss, by_y, T> kernel{x.data<T>(),
                                                 y.data<T>(),
                                                 numbers<V>(constants.table),
                                                 V(constants.value),
                                                 dloss.data<V>(),
                                                 target.data<T>(),
                                                 numel,
                                                 chunk,
                                                 V(reduction_scale(reduction, numel)),
                                                 reduction == Reduction::none,
                                                 target.accumulate};
    for_rows(x.device(), kernel, (numel + chunk - 1) / chunk, std::min(chunk, numel));
  });
}

template <class Loss>
Tensor pair_loss(const Names& names, const Tensor& x, const Tensor& y, Reduction reduction,
                 const Constants& constants = {}) {
  const OpRange range(names.op);
  check_same_kind(names.op, x.value(), names.x, y.value(), names.y);
  check(x.shape() == y.shape(), "{}: {} and {} must have one shape, got {} and {}", names.op, names.x, names.y,
        x.shape(), y.shape());
  const int64_t numel = x.numel(), chunk = constants.chunk, rows = (numel + chunk - 1) / chunk;
  const bool total = reduction != Reduction::none;
  const Options options{statistics_dtype(x.dtype()), x.device()};
  const Array out = Array::empty(total ? Shape({rows}) : x.shape(), options);
  dispatch_float(names.op, x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const PairLoss<Loss, T> kernel{x.value().data<T>(),
                                   y.value().data<T>(),
                                   numbers<V>(constants.table),
                                   V(constants.value),
                                   out.data<V>(),
                                   numel,
                                   chunk,
                                   total};
    for_rows(x.device(), kernel, rows, std::min(chunk, numel));
  });
  const Array loss = total ? scaled_total(out, reduction_scale(reduction, numel)) : out;
  return record(names.op, loss, {x, y},
                [x = x.value(), y = y.value(), constants, reduction](std::span<const Array> dy, Grads& grads) {
                  pair_gradient<Loss, false>(grads, 0, x, y, dy[0], constants, reduction);
                  pair_gradient<Loss, true>(grads, 1, x, y, dy[0], constants, reduction);
                });
}

// The weights of the last dimension, repeated to whole rows of the kernel.
Constants repeated(const Array& weight, const Tensor& logits) {
  const int64_t cols = logits.shape().cols();
  const Dtype dtype = statistics_dtype(logits.dtype());
  constexpr const char* op = "binary_cross_entropy_with_logits";
  check(weight.device() == logits.device() && weight.dtype() == dtype,
        "{}: for logits in {} on {} positive_weight must be {} there, got {} on {}", op, name_of(logits.dtype()),
        logits.device().name(), name_of(dtype), name_of(weight.dtype()), weight.device().name());
  check(weight.numel() == 1 || weight.shape() == Shape({cols}),
        "{}: positive_weight must be one number or one for each of the last dimension, got logits {} and "
        "positive_weight {}",
        op, logits.shape(), weight.shape());
  if (weight.numel() == 1) return {.value = weight.item()};
  if (cols == 0) return {};
  const int64_t times = std::max<int64_t>(1, elementwise_row / cols);
  const Array table = Array::empty({times, cols}, weight.options());
  for (int64_t i = 0; i < times; ++i) table.rows(i, 1).copy_from(weight.reshape({1, cols}));
  return {.table = table, .chunk = times * cols};
}

}  // namespace

Tensor mse_loss(const Tensor& prediction, const Tensor& target, Reduction reduction) {
  return pair_loss<SquaredError>({"mse_loss", "prediction", "target"}, prediction, target, reduction);
}

Tensor l1_loss(const Tensor& prediction, const Tensor& target, Reduction reduction) {
  return pair_loss<AbsoluteError>({"l1_loss", "prediction", "target"}, prediction, target, reduction);
}

Tensor huber_loss(const Tensor& prediction, const Tensor& target, double delta, Reduction reduction) {
  check(delta > 0, "huber_loss: delta must be positive, got {}", delta);
  return pair_loss<HuberError>({"huber_loss", "prediction", "target"}, prediction, target, reduction, {delta});
}

Tensor binary_cross_entropy_with_logits(const Tensor& logits, const Tensor& targets, const Array& positive_weight,
                                        Reduction reduction) {
  const Constants constants = positive_weight.defined() ? repeated(positive_weight, logits) : Constants{};
  return pair_loss<LogitsCrossEntropy>({"binary_cross_entropy_with_logits", "logits", "targets"}, logits, targets,
                                       reduction, constants);
}

Tensor binary_cross_entropy(const Tensor& probabilities, const Tensor& targets, Reduction reduction) {
  return pair_loss<ProbabilityCrossEntropy>({"binary_cross_entropy", "probabilities", "targets"}, probabilities,
                                            targets, reduction);
}

}  // namespace moxie
