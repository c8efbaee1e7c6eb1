// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/transpose.cuh"

#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

template <class T, int Pack>
__global__ void __launch_bounds__(transpose_threads) transpose(TransposeCopy<T> kernel, int64_t tiles) {
  __shared__ TransposeMemory<T> memory;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) transpose_tile<T, Pack>(kernel, tile, memory);
}

template <class T> void launch(int device, const TransposeCopy<T>& kernel) {
  const int64_t tiles = transpose_tiles(kernel);
  const dim3 blocks = blocks_for(tiles);
  constexpr int pack = transpose_pack<T>;
  if (pack > 1 && transpose_is_packed(kernel))
    transpose<T, pack><<<blocks, transpose_threads, 0, stream(device)>>>(kernel, tiles);
  else
    transpose<T, 1><<<blocks, transpose_threads, 0, stream(device)>>>(kernel, tiles);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, transpose_threads});
}

}  // namespace

#define MOXIE_TRANSPOSE(T) \
  template <> void for_rows(int device, const TransposeCopy<T>& kernel, int64_t, int64_t) { launch(device, kernel); }
MOXIE_TRANSPOSE(double)
MOXIE_TRANSPOSE(float)
MOXIE_TRANSPOSE(bf16)
MOXIE_TRANSPOSE(int32_t)
MOXIE_TRANSPOSE(uint8_t)

}  // namespace moxie::cuda
