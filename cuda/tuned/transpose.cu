// SPDX-License-Identifier: Apache-2.0
// Transposes through shared memory: a warp reads along x and writes along y, where the generic kernel's threads read
// lines that lie apart.
#include "core/kernels/shape/strided_copy.h"
#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

template <class T> __global__ void __launch_bounds__(block_threads) transpose(TransposeCopy<T> kernel, int64_t rows) {
  constexpr int tile = static_cast<int>(TransposeCopy<T>::tile);
  static_assert(tile == warp_size);
  __shared__ T values[tile][tile + 1];  // one more, so that neither direction meets one bank
  __shared__ typename TransposeCopy<T>::Place at;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    if (threadIdx.x == 0) at = kernel.place(row);  // divisions, which one thread does for all
    __syncthreads();
#pragma unroll
    for (int i = warp; i < tile; i += warps_of_block)
      if (i < at.width && lane < at.height) values[i][lane] = kernel.x[at.from + lane + i * at.step];
    __syncthreads();
#pragma unroll
    for (int j = warp; j < tile; j += warps_of_block)
      if (j < at.height && lane < at.width) kernel.y[at.to + j * at.apart + lane] = values[lane][j];
    __syncthreads();
  }
}

template <class T> void launch(int device, const TransposeCopy<T>& kernel, int64_t rows) {
  const dim3 blocks = blocks_for(rows);
  transpose<<<blocks, block_threads, 0, stream(device)>>>(kernel, rows);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
}

}  // namespace

#define MOXIE_TRANSPOSE(T)                                                                       \
  template <> void for_rows(int device, const TransposeCopy<T>& kernel, int64_t rows, int64_t) { \
    launch(device, kernel, rows);                                                                \
  }
MOXIE_TRANSPOSE(double)
MOXIE_TRANSPOSE(float)
MOXIE_TRANSPOSE(bf16)
MOXIE_TRANSPOSE(int32_t)
MOXIE_TRANSPOSE(uint8_t)

}  // namespace moxie::cuda
