// SPDX-License-Identifier: Apache-2.0
// Losses: scalars that a model is trained on.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// Mean of -log softmax(logits)[target] over the targets that aren't `ignore_index` -> scalar in f32 (f64 for f64);
// 0 with zero gradient where all are ignored. logits [.., classes], targets [..] (i32).
Tensor cross_entropy(const Tensor& logits, const Array& targets, int64_t ignore_index = -100);

}  // namespace moxie
