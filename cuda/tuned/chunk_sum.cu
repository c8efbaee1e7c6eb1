// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/chunk_sum.cuh"

#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

constexpr int64_t least_columns = 96;  // narrower arrays don't fill a block's threads
constexpr int64_t least_blocks = 264;  // fewer leave multiprocessors idle
constexpr int64_t least_lines = 32;    // fewer aren't worth the warps of a block
constexpr int64_t least_rows = 1024;   // fewer don't fill the device with a warp for each

template <class T, int Pack>
__global__ void __launch_bounds__(chunk_sum_threads) chunk_columns(ChunkSum<T> kernel, int64_t rows) {
  sum_columns<T, Pack>(kernel, rows, blockIdx.x, gridDim.x, blockIdx.y);
}

template <class T>
__global__ void __launch_bounds__(sharing_threads) chunk_shared_columns(ChunkSum<T> kernel, int64_t rows) {
  __shared__ SharingMemory<T> memory;
  sum_shared_columns<T>(kernel, rows, blockIdx.x, gridDim.x, blockIdx.y, memory);
}

template <class T> __global__ void __launch_bounds__(block_threads) chunk_rows(ChunkSum<T> kernel, int64_t rows) {
  const int64_t step = int64_t{gridDim.x} * warps_of_block;
  for (int64_t row = int64_t{blockIdx.x} * warps_of_block + warp_index(); row < rows; row += step) sum_row(kernel, row);
}

template <class T> __global__ void __launch_bounds__(row_threads) chunk_row_by_block(ChunkSum<T> kernel, int64_t rows) {
  __shared__ RowMemory memory;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) sum_row_by_block(kernel, row, memory);
}

template <class T> int64_t lines_of_row(const ChunkSum<T>& kernel) {
  return kernel.n < kernel.chunk ? kernel.n : kernel.chunk;
}

template <class T, int Pack> void launch_columns(int device, const ChunkSum<T>& kernel, int64_t rows, int64_t cols) {
  const int64_t strips = (kernel.inner + chunk_sum_threads * Pack - 1) / (chunk_sum_threads * Pack);
  const int64_t narrow_strips = (kernel.inner + warp_size - 1) / warp_size;
  const cudaStream_t on = stream(device);
  if (kernel.inner > 1 && lines_of_row(kernel) >= least_lines && narrow_strips <= most_blocks_y &&
      (kernel.inner < least_columns || rows * strips < least_blocks)) {
    const dim3 blocks(blocks_for(rows).x, static_cast<unsigned>(narrow_strips));
    chunk_shared_columns<T><<<blocks, sharing_threads, 0, on>>>(kernel, rows);
    return check_launch(device, __PRETTY_FUNCTION__, {blocks, sharing_threads});
  }
  if (kernel.inner < least_columns || strips > most_blocks_y) return launch_rows(device, kernel, rows, cols);
  const dim3 blocks(blocks_for(rows).x, static_cast<unsigned>(strips));
  chunk_columns<T, Pack><<<blocks, chunk_sum_threads, 0, on>>>(kernel, rows);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, chunk_sum_threads});
}

template <class T> void launch(int device, const ChunkSum<T>& kernel, int64_t rows, int64_t cols) {
  if constexpr (!std::is_same_v<T, double>) {
    if (rows < least_rows && lines_of_row(kernel) > longest_warp_row && rows_are_packed(kernel)) {
      const dim3 blocks = blocks_for(rows);
      chunk_row_by_block<<<blocks, row_threads, 0, stream(device)>>>(kernel, rows);
      return check_launch(device, __PRETTY_FUNCTION__, {blocks, row_threads});
    }
  }
  if constexpr (std::is_same_v<T, bf16>) {
    if (rows >= least_rows && rows_are_packed(kernel)) {
      const dim3 blocks = blocks_for((rows + warps_of_block - 1) / warps_of_block);
      chunk_rows<<<blocks, block_threads, 0, stream(device)>>>(kernel, rows);
      return check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
    }
    if (columns_are_packed(kernel)) return launch_columns<T, column_pack<T>>(device, kernel, rows, cols);
  }
  launch_columns<T, 1>(device, kernel, rows, cols);
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
