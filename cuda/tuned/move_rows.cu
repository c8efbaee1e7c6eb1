// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/move_rows.cuh"

#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

template <class Packed> __global__ void __launch_bounds__(block_threads) packed_rows(Packed packed, int64_t rows) {
  const int64_t step = int64_t{gridDim.x} * warps_of_block;
  for (int64_t row = int64_t{blockIdx.x} * warps_of_block + warp_index(); row < rows; row += step) packed(row);
}

template <class Kernel> void launch(int device, const Kernel& kernel, int64_t rows, int64_t cols) {
  if (rows == 0) return;
  const bool launched = with_packed(kernel, [&](const auto& packed) {
    const dim3 blocks = blocks_for((rows + warps_of_block - 1) / warps_of_block);
    packed_rows<<<blocks, block_threads, 0, stream(device)>>>(packed, rows);
    check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
  });
  if (!launched) launch_rows(device, kernel, rows, cols);
}

}  // namespace

#define MOXIE_PACKED_ROWS(...)                                                                   \
  template <> void for_rows(int device, const __VA_ARGS__& kernel, int64_t rows, int64_t cols) { \
    launch(device, kernel, rows, cols);                                                          \
  }
MOXIE_PACKED_ROWS(moe::Combine<float>)
MOXIE_PACKED_ROWS(moe::Combine<bf16>)
MOXIE_PACKED_ROWS(moe::CombineBackward<float>)
MOXIE_PACKED_ROWS(moe::CombineBackward<bf16>)
MOXIE_PACKED_ROWS(GatherRows<double>)
MOXIE_PACKED_ROWS(GatherRows<float>)
MOXIE_PACKED_ROWS(GatherRows<bf16>)
MOXIE_PACKED_ROWS(GatherRows<int32_t>)
MOXIE_PACKED_ROWS(GatherRows<uint8_t>)

}  // namespace moxie::cuda
