// SPDX-License-Identifier: Apache-2.0
// How several arrays meet in one result, broadcast like NumPy's.
#pragma once
#include "core/kernels/elementwise/rows.h"

namespace moxie {

// Sizes of the result outermost first, and the strides of each operand in elements, 0 where it repeats. The result is
// contiguous; a row of work is at most elementwise_row elements of its last dimension. Strides of the last dimension
// are 0 or 1.
template <int operands> struct BroadcastPlan {
  static constexpr int max_rank = 8;
  int rank = 0;
  int64_t size[max_rank] = {};
  int64_t stride[operands][max_rank] = {};

  MOXIE_FN int64_t cols() const { return rank == 0 ? 1 : size[rank - 1]; }
  MOXIE_FN int64_t rows() const {
    int64_t total = elementwise_rows(cols());
    for (int i = 0; i + 1 < rank; ++i) total *= size[i];
    return total;
  }
  // The longest row.
  MOXIE_FN int64_t row_size() const { return cols() < elementwise_row ? cols() : elementwise_row; }
  // Whether operand k has one element for a whole row.
  MOXIE_FN bool repeats(int k) const { return rank > 0 && stride[k][rank - 1] == 0; }

  // Where a row begins in the result and in the operands, and how many elements it has.
  struct Place {
    int64_t result, count;
    int64_t operand[operands];
  };
  MOXIE_FN Place place(int64_t row) const {
    const int64_t pieces = elementwise_rows(cols()), piece = row % pieces;
    int64_t line = row / pieces;
    Place place;
    place.result = line * cols() + piece * elementwise_row;
    place.count = elementwise_count(cols(), piece);
    for (int k = 0; k < operands; ++k) place.operand[k] = repeats(k) ? 0 : piece * elementwise_row;
    for (int i = rank - 2; i >= 0; --i) {
      const int64_t index = line % size[i];
      line /= size[i];
      for (int k = 0; k < operands; ++k) place.operand[k] += index * stride[k][i];
    }
    return place;
  }
};

// Calls f with a function of i that gives x[i], or x[0] for every i where x repeats: with fixed steps the compiler
// vectorises.
template <class T, class F> MOXIE_FN void with_reader(const T* x, bool repeats, F f) {
  if (repeats) {
    const T value = x[0];
    f([=](int64_t) { return value; });
  } else {
    f([=](int64_t i) { return x[i]; });
  }
}

// The same for two operands of one result, which never repeat both.
template <class X, class Y, class F>
MOXIE_FN void with_readers(const X* x, bool x_repeats, const Y* y, bool y_repeats, F f) {
  if (x_repeats) {
    const X value = x[0];
    f([=](int64_t) { return value; }, [=](int64_t i) { return y[i]; });
  } else {
    with_reader(y, y_repeats, [=](auto y_at) { f([=](int64_t i) { return x[i]; }, y_at); });
  }
}

}  // namespace moxie
