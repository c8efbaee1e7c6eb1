// SPDX-License-Identifier: Apache-2.0
// Sums over lines, with a thread for every column: the generic kernel's teams go over their columns one after the
// other, and wait for memory each time.
#include "core/kernels/reduce/sum.h"
#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

// Narrower arrays don't fill a block's threads.
constexpr int64_t least_columns = 96;

template <class T> __global__ void __launch_bounds__(block_threads) chunk_columns(ChunkSum<T> kernel, int64_t rows) {
  using V = Accumulator<T>;
  const int64_t col = int64_t{blockIdx.y} * block_threads + threadIdx.x, n = kernel.inner;
  if (col >= n) return;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t first = row % kernel.chunks * kernel.chunk;
    const int64_t left = kernel.n - first, lines = left < kernel.chunk ? left : kernel.chunk;
    const T* in = kernel.x + (row / kernel.chunks * kernel.n + first) * n + col;
    V total = V(0);
#pragma unroll 16
    for (int64_t k = 0; k < lines; ++k) total += V(in[k * n]);
    kernel.y[row * n + col] = total;
  }
}

template <class T> void launch(int device, const ChunkSum<T>& kernel, int64_t rows, int64_t cols) {
  const int64_t strips = (kernel.inner + block_threads - 1) / block_threads;
  if (kernel.inner < least_columns || strips > 65535) return launch_rows(device, kernel, rows, cols);
  const dim3 blocks(blocks_for(rows).x, static_cast<unsigned>(strips));
  chunk_columns<<<blocks, block_threads, 0, stream(device)>>>(kernel, rows);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
}

}  // namespace

#define MOXIE_CHUNK_SUM(T)                                                                       \
  template <> void for_rows(int device, const ChunkSum<T>& kernel, int64_t rows, int64_t cols) { \
    launch(device, kernel, rows, cols);                                                          \
  }
MOXIE_CHUNK_SUM(double)
MOXIE_CHUNK_SUM(float)
MOXIE_CHUNK_SUM(bf16)

}  // namespace moxie::cuda
