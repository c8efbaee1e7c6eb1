// SPDX-License-Identifier: Apache-2.0
// Elements chosen by index. Indices are i32 arrays without gradient, checked against the range.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// The index[i]-th element along `dim`: y has index's shape, which is x's but for `dim`.
Tensor gather(const Tensor& x, int64_t dim, const Array& index);
// x with source[i] added to row index[i]: x [rows, ..], index [n], source [n, ..]; rows met several times add up.
Tensor index_add(const Tensor& x, const Array& index, const Tensor& source);
// Rows index of weight [vocabulary, width] -> [index shape.., width]
Tensor embedding(const Tensor& weight, const Array& index);
// 1 at the index, 0 elsewhere, in any dtype: [index shape.., classes]
Tensor one_hot(const Array& index, int64_t classes, Dtype dtype = Dtype::f32);
// The k largest of the last dimension in falling order, the lowest index first among equals; NaN counts as smallest.
struct TopK {
  Tensor values;  // [.., k]
  Array indices;  // [.., k], i32
};
TopK top_k(const Tensor& x, int64_t k);
// The last dimension in rising order, or falling; equal elements keep their order, and NaN comes last either way.
struct SortOptions {
  bool descending = false;
};
struct Sorted {
  Tensor values;  // x's shape
  Array indices;  // where each value was in its row, i32
};
Sorted sort(const Tensor& x, SortOptions options = {});

}  // namespace moxie
