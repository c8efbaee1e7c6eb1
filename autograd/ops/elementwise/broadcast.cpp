// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/elementwise/broadcast.h"

#include <algorithm>

#include "core/check.h"

namespace moxie {

Shape broadcast_shape(const char* op, const Shape& x, const char* x_name, const Shape& y, const char* y_name) {
  Shape result = x.rank() >= y.rank() ? x : y;
  for (int64_t i = 1; i <= std::min(x.rank(), y.rank()); ++i) {
    const int64_t a = x[-i], b = y[-i];
    check(a == b || a == 1 || b == 1, "{}: shapes don't broadcast, {} {} and {} {} (dimension -{}: {} and {})", op,
          x_name, x, y_name, y, i, a, b);
    result = result.with(-i, a == 1 ? b : a);
  }
  return result;
}

template <size_t n>
BroadcastPlan<static_cast<int>(n)> plan_broadcast(const std::array<Shape, n>& operands, const Shape& result) {
  BroadcastPlan<static_cast<int>(n)> plan;
  std::array<int64_t, n> step;  // the operands' elements inside the dimension at hand
  step.fill(1);
  int rank = 0;
  for (int64_t back = 1; back <= result.rank(); ++back) {  // innermost first
    const int64_t size = result[-back];
    std::array<int64_t, n> stride;
    for (size_t k = 0; k < n; ++k) {
      const int64_t own = back <= operands[k].rank() ? operands[k][-back] : 1;
      stride[k] = own == 1 ? 0 : step[k];
      step[k] *= own;
    }
    if (size == 1) continue;
    bool follows = rank > 0;
    for (size_t k = 0; k < n && follows; ++k) follows = stride[k] == plan.stride[k][rank - 1] * plan.size[rank - 1];
    if (follows) {
      plan.size[rank - 1] *= size;
      continue;
    }
    plan.size[rank] = size;
    for (size_t k = 0; k < n; ++k) plan.stride[k][rank] = stride[k];
    ++rank;
  }
  plan.rank = rank;
  std::reverse(plan.size, plan.size + rank);
  for (auto& strides : plan.stride) std::reverse(strides, strides + rank);
  return plan;
}

template BroadcastPlan<1> plan_broadcast(const std::array<Shape, 1>& operands, const Shape& result);
template BroadcastPlan<2> plan_broadcast(const std::array<Shape, 2>& operands, const Shape& result);
template BroadcastPlan<3> plan_broadcast(const std::array<Shape, 3>& operands, const Shape& result);

}  // namespace moxie
