// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>

#include "core/kernels/elementwise/broadcast.h"
#include "core/shape.h"

namespace moxie {

// The shape in which x and y meet; throws std::invalid_argument where they don't.
Shape broadcast_shape(const char* op, const Shape& x, const char* x_name, const Shape& y, const char* y_name);

// The strides of operands that broadcast to `result`, neighbouring dimensions merged where all of them allow it.
template <size_t n>
BroadcastPlan<static_cast<int>(n)> plan_broadcast(const std::array<Shape, n>& operands, const Shape& result);

}  // namespace moxie
