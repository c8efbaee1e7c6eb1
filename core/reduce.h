// SPDX-License-Identifier: Apache-2.0
// The reduction seam: sums over the middle of an array seen as [outer, n, inner].
#pragma once
#include "core/array.h"

namespace moxie {

// x [outer, n, inner] -> [outer, inner] in the dtype of x's statistics: f64 for f64, f32 for f32 and bf16.
Array reduce_sum(const Array& x, int64_t outer, int64_t n, int64_t inner);

// How many lines of a matrix one chunk of a sum over its columns has: on a GPU few, which makes enough rows of work.
inline int64_t lines_of_chunk(Device device) { return device.is_cpu() ? 128 : 32; }

}  // namespace moxie
