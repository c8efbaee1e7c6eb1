// SPDX-License-Identifier: Apache-2.0
// What the losses share beyond autograd/ops/common.h.
#pragma once
#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/loss.h"
#include "core/reduce.h"

namespace moxie {

// By what the sum of `count` losses is multiplied.
inline double reduction_scale(Reduction reduction, int64_t count) {
  return reduction == Reduction::mean && count > 0 ? 1.0 / static_cast<double>(count) : 1.0;
}

// scale times the sum of all of `parts`, as a scalar.
inline Array scaled_total(const Array& parts, double scale) {
  const Array total = reduce_sum(parts, 1, parts.numel(), 1).reshape(Shape{});
  return scale == 1 ? total : affine(Tensor(total), scale, 0).value();
}

// loss = totals[0] / count with count = totals[1], both scalars; where nothing counts, the loss is 0.
void mean_loss(const Array& totals, const Array& count, const Array& loss);

// The rules of logits [.., classes] and targets [..]; gives the ignored index as a target can hold it.
int32_t check_targets(const Tensor& logits, const Array& targets, int64_t ignore_index);

}  // namespace moxie
