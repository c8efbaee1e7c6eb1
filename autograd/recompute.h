// SPDX-License-Identifier: Apache-2.0
// Activation recomputation: trade a second forward pass for memory.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "autograd/tensor.h"

namespace moxie {

using Segment = std::function<std::vector<Tensor>(std::span<const Tensor> inputs)>;

// Computes segment(inputs) without keeping what its backward pass needs, and computes it again when that comes. The
// segment must give the same numbers both times (random draws keyed by a Context do). Parameters that it uses get their
// gradients directly; results of other ops must come in as inputs, which the backward pass checks.
std::vector<Tensor> recompute(const Segment& segment, const std::vector<Tensor>& inputs);

}  // namespace moxie
