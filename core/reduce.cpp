// SPDX-License-Identifier: Apache-2.0
#include "core/reduce.h"

#include <algorithm>

#include "core/kernels/reduce/sum.h"
#include "core/launch.h"

namespace moxie {
namespace {

// How much of the n one chunk takes. On a GPU every pass is a launch that waits for the one before: the first one makes
// about as many rows of work as run at once, and one more adds up what those leave.
int64_t chunk_of(Device device, int64_t outer, int64_t n, int64_t inner) {
  constexpr int64_t part = 4096;
  if (device.is_cpu()) return inner == 1 ? part : lines_of_chunk(device);
  const auto quotient = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  if (inner == 1) {
    constexpr int64_t most = 16384, multiple = 8;  // one block's work; rows that are read by 16 bytes
    return n <= most ? n : std::max(part, quotient(quotient(n, most), multiple) * multiple);
  }
  constexpr int64_t most_lines = 512, few_numbers = int64_t{1} << 22, columns_of_block = 1024, blocks = 1024;
  if (n <= most_lines && outer * n * inner <= few_numbers) return n;
  return std::max(lines_of_chunk(device), outer * n * quotient(inner, columns_of_block) / blocks);
}

}  // namespace

Array reduce_sum(const Array& x, int64_t outer, int64_t n, int64_t inner) {
  check_internal(x.numel() == outer * n * inner, "reduce_sum: {} is not {} x {} x {}", x.shape(), outer, n, inner);
  const int64_t chunk = chunk_of(x.device(), outer, n, inner);
  const int64_t chunks = n <= chunk ? 1 : (n + chunk - 1) / chunk;
  const Array y = Array::empty({outer, chunks, inner}, {statistics_dtype(x.dtype()), x.device()});
  dispatch_float("reduce_sum", x.dtype(), [&]<class T>(T) {
    const ChunkSum<T> kernel{x.data<T>(), y.data<Accumulator<T>>(), n, inner, chunk, chunks};
    for_rows(x.device(), kernel, outer * chunks, (n < chunk ? n : chunk) * inner);
  });
  return chunks == 1 ? y.reshape({outer, inner}) : reduce_sum(y, outer, chunks, inner);
}

}  // namespace moxie
