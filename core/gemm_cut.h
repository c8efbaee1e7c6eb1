// SPDX-License-Identifier: Apache-2.0
// How products on the CPU are cut into work for threads, by their shape and the load of groups alone.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace moxie {

// Fewer multiplications and additions than this stay on the calling thread.
inline constexpr double parallel_flops = 1e6;

// Even pieces of at most `most` elements, in steps that suit the vector units.
struct Cut {
  int64_t count = 0, size = 0;
  Cut(int64_t extent, int64_t most) {
    if (extent == 0) return;
    count = (extent + most - 1) / most;
    size = (extent + count - 1) / count;
    size = std::min(extent, (size + 15) / 16 * 16);
    count = (extent + size - 1) / size;
  }
  int64_t first(int64_t i) const { return i * size; }
  int64_t length(int64_t i, int64_t extent) const { return std::min(size, extent - i * size); }
};

// The groups in the order of their rows, most first, so that no thread begins a long one when the others have nothing
// left to do.
inline std::vector<int64_t> longest_first(const int32_t* offsets, int64_t groups) {
  const auto load = [&](int64_t g) { return offsets[g + 1] - offsets[g]; };
  std::vector<int64_t> order(static_cast<size_t>(groups));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return load(x) > load(y); });
  return order;
}

}  // namespace moxie
