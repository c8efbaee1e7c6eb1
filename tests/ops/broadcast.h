// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/shape.h"

namespace moxie::testing {

// Which element of an operand meets element i of the broadcast result: its index in each dimension that the operand
// doesn't repeat.
inline int64_t broadcast_place(const Shape& operand, const Shape& result, int64_t i) {
  int64_t at = 0, step = 1;
  for (int64_t back = 1; back <= result.rank(); ++back) {
    const int64_t index = i % result[-back];
    i /= result[-back];
    if (back > operand.rank()) continue;
    if (operand[-back] != 1) at += index * step;
    step *= operand[-back];
  }
  return at;
}

}  // namespace moxie::testing
