// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "core/array.h"

namespace moxie::nn {

// A list in the memory of the device that kernels on it read: uploaded where it differs from the one before, which it
// hardly ever does from step to step; a graph that is being recorded gets one of its own. On the CPU it is the caller's
// own list.
class UploadedList final {
 public:
  const void* on(Device device, std::span<const std::byte> list);

 private:
  std::vector<std::byte> list_;
  Array memory_;
};

// A few numbers that kernels read, always in the same place: each call overwrites them, also for a graph that is being
// recorded, which doesn't repeat that.
class UploadedNumbers final {
 public:
  const void* on(Device device, std::span<const std::byte> numbers);

 private:
  std::vector<std::byte> host_;
  Array memory_;
};

}  // namespace moxie::nn
