// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "core/array.h"

namespace moxie::nn {

// A list in the memory of the device that kernels on it read: uploaded where it differs from the one before, which it
// hardly ever does from step to step. On the CPU it is the caller's own list.
class UploadedList final {
 public:
  const void* on(Device device, std::span<const std::byte> list);

 private:
  std::vector<std::byte> list_;
  Array memory_;
};

}  // namespace moxie::nn
