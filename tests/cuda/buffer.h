// SPDX-License-Identifier: Apache-2.0
// Memory for kernels that the block emulator runs.
#pragma once
#include <random>
#include <vector>

#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

// Begins at a multiple of 16 bytes, and `skipped` elements later.
template <class T> struct Buffer {
  std::vector<Vector16> memory;
  T* data;
  Buffer(int64_t count, int64_t skipped = 0)
      : memory(static_cast<size_t>((count + skipped) * static_cast<int64_t>(sizeof(T)) / 16 + 1)),
        data(reinterpret_cast<T*>(memory.data()) + skipped) {}
};

template <class T> Buffer<T> random_numbers(int64_t count, int64_t skipped = 0) {
  Buffer<T> buffer(count, skipped);
  std::mt19937 random(7);
  for (int64_t i = 0; i < count; ++i) buffer.data[i] = static_cast<T>(static_cast<float>(random() % 251) / 8.0f);
  return buffer;
}

}  // namespace moxie::cuda
