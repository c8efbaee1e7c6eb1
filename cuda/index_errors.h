// SPDX-License-Identifier: Apache-2.0
// What kernels found wrong with indices, to be thrown later.
#pragma once
#include <cstdint>

namespace moxie::cuda {

struct IndexRecord {
  int64_t position;  // -1: nothing found
  int32_t value;
};

// The record of this op and limit, in page-locked memory that kernels of `device` may write.
IndexRecord* index_record(int device, const char* op, int64_t limit);
// Throws std::invalid_argument for what has been found, and forgets it. Sees what kernels did before the device was
// waited for last.
void throw_if_index_out_of_range();

}  // namespace moxie::cuda
