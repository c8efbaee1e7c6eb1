// SPDX-License-Identifier: Apache-2.0
// Elementwise kernels see their arrays as rows of 4,096 elements, whatever the shape.
#pragma once
#include <cstdint>

#include "core/macros.h"

namespace moxie {

inline constexpr int64_t elementwise_row = 4096;

MOXIE_FN int64_t elementwise_rows(int64_t numel) { return (numel + elementwise_row - 1) / elementwise_row; }

// How many elements row `row` has: the last one may be shorter.
MOXIE_FN int64_t elementwise_count(int64_t numel, int64_t row) {
  const int64_t left = numel - row * elementwise_row;
  return left < elementwise_row ? left : elementwise_row;
}

}  // namespace moxie
