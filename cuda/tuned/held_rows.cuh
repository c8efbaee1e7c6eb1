// SPDX-License-Identifier: Apache-2.0
// Rows that fit into the registers of their team, so that memory is read once however often a kernel goes over a row.
#pragma once
#include "cuda/launch.cuh"

namespace moxie::cuda {

// One member's part of a row: element rank + k * Team::size is value[k].
template <class Team, class Value, int count> struct HeldRow {
  Value value[count];

  // value = f(i), and `none` beyond the row's end.
  template <class F> __device__ __forceinline__ HeldRow(Team team, int64_t n, F f, Value none) {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const int64_t i = team.rank() + k * Team::size;
      value[k] = i < n ? f(i) : none;
    }
  }
  // value = f(value)
  template <class F> __device__ __forceinline__ void apply(F f) {
#pragma unroll
    for (int k = 0; k < count; ++k) value[k] = f(value[k]);
  }
  // f(i, value) for every element of the row
  template <class F> __device__ __forceinline__ void each(Team team, int64_t n, F f) const {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const int64_t i = team.rank() + k * Team::size;
      if (i < n) f(i, value[k]);
    }
  }
  // The sum of f(value) over all members, `none` included.
  template <class F> __device__ __forceinline__ auto sum(Team team, F f) const {
    auto part = f(value[0]);
#pragma unroll
    for (int k = 1; k < count; ++k) part += f(value[k]);
    return team.sum(Team::size, [=](int64_t) { return part; });
  }
  __device__ __forceinline__ Value max(Team team) const {
    Value part = value[0];
#pragma unroll
    for (int k = 1; k < count; ++k) part = value[k] > part ? value[k] : part;
    return team.max(Team::size, [=](int64_t) { return part; });
  }
};

template <class Held, int count, class Kernel>
__global__ void __launch_bounds__(block_threads) held_warp_per_row(Kernel kernel, int64_t rows) {
  const int64_t step = int64_t{gridDim.x} * warps_of_block;
  for (int64_t row = int64_t{blockIdx.x} * warps_of_block + threadIdx.x / warp_size; row < rows; row += step)
    Held::template run<count>(kernel, WarpTeam{}, row);
}
template <class Held, int count, class Kernel>
__global__ void __launch_bounds__(block_threads) held_block_per_row(Kernel kernel, int64_t rows) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
    Held::template run<count>(kernel, BlockTeam<block_threads>{}, row);
}

// Runs Held::run<count>(kernel, team, row) for every row, with `count` elements to a thread; rows that don't fit go to
// the generic kernel. `most` bounds what a thread may hold.
template <class Held, int most, class Kernel>
void launch_held(int device, const Kernel& kernel, int64_t rows, int64_t cols) {
  const cudaStream_t on = stream(device);
  const auto by_warps = [&]<int count>(std::integral_constant<int, count>) {
    const dim3 blocks = blocks_for((rows + warps_of_block - 1) / warps_of_block);
    held_warp_per_row<Held, count><<<blocks, block_threads, 0, on>>>(kernel, rows);
    check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
  };
  const auto by_blocks = [&]<int count>(std::integral_constant<int, count>) {
    const dim3 blocks = blocks_for(rows);
    held_block_per_row<Held, count><<<blocks, block_threads, 0, on>>>(kernel, rows);
    check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
  };
  const int64_t n = kernel.cols;
  if (n <= 256) return by_warps(std::integral_constant<int, 8>());
  if (n <= 512) return by_warps(std::integral_constant<int, 16>());
  if (most >= 32 && n <= 1024) return by_warps(std::integral_constant<int, most>());
  if (n <= 1024) return by_blocks(std::integral_constant<int, 4>());
  if (n <= 2048) return by_blocks(std::integral_constant<int, 8>());
  if (n <= 4096) return by_blocks(std::integral_constant<int, 16>());
  if (most >= 32 && n <= 8192) return by_blocks(std::integral_constant<int, most>());
  launch_rows(device, kernel, rows, cols);
}

}  // namespace moxie::cuda

// Puts Held in the place of the generic kernel: MOXIE_HELD_ROWS(HeldSoftmax, 32, Softmax<float>)
#define MOXIE_HELD_ROWS(Held, most, ...)                                                         \
  template <> void for_rows(int device, const __VA_ARGS__& kernel, int64_t rows, int64_t cols) { \
    launch_held<Held, most>(device, kernel, rows, cols);                                         \
  }
