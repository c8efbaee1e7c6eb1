// SPDX-License-Identifier: Apache-2.0
// What the ops of this folder share: copies between places that lie apart.
#pragma once
#include <vector>

#include "core/array.h"

namespace moxie {

// Distances between neighbours along each dimension of a contiguous array, in elements.
std::vector<int64_t> strides_of(const Shape& shape);

// An array of shape `shape` from x's elements, `first` on, whose neighbours along dimension i lie strides[i] apart: 0
// repeats one, negative strides go backwards.
Array strided_copy(const Array& x, const Shape& shape, const std::vector<int64_t>& strides, int64_t first = 0);
// The same with sizes of any number of dimensions; the result is flat.
Array strided_copy(const Array& x, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                   int64_t first);

// Lines of `cols` elements from x, `x_first` on and `x_stride` apart, to y: y (+)= x.
struct Lines {
  int64_t first = 0;
  int64_t stride = 0;
};
void copy_lines(const Array& x, Lines from, const Array& y, Lines to, int64_t count, int64_t cols, bool accumulate);

}  // namespace moxie
