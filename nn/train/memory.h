// SPDX-License-Identifier: Apache-2.0
// How much memory this process occupies.
#pragma once
#include <cstdint>

namespace moxie::train {

// Bytes of main memory that the process holds now; 0 where the system doesn't tell.
int64_t resident_bytes();
// The most it has held at once since it began; 0 where the system doesn't tell.
int64_t peak_resident_bytes();

}  // namespace moxie::train
