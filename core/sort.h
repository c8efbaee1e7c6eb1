// SPDX-License-Identifier: Apache-2.0
// The sort seam: stable counting sort of small integers, and of rows of numbers.
#pragma once
#include "core/array.h"

namespace moxie {

struct CountingSort {
  Array offsets;  // [values + 1], i32: value v has places [offsets[v], offsets[v + 1])
  Array order;    // [n], i32: order[place] = position in the input / group; equal values keep their order
  Array place;    // [n], i32: of each position in the input
};

// Sorts keys [n] (i32, each in [0, values), which the caller has checked). Where keys are [lines, group], `order` holds
// lines.
CountingSort counting_sort(const Array& keys, int64_t values, int64_t group = 1);

// Sorts each row of x [rows, n] (float), stably, NaN last; indices [rows, n] (i32) say where each value was.
void sort_rows(const Array& x, bool descending, const Array& values, const Array& indices);

}  // namespace moxie
