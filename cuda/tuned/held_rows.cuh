// SPDX-License-Identifier: Apache-2.0
// Rows that fit into the registers of their team, read and written by 16 bytes at a time: memory is read once however
// often a kernel goes over a row, and a bf16 costs few instructions.
#pragma once
#include <cstring>

#include "cuda/launch.cuh"
#include "cuda/packs.cuh"

namespace moxie::cuda {

// count elements from p on, which is aligned to 16 bytes, as is their end.
template <int count, class T, class V> __device__ __forceinline__ void read_packs(const T* p, V* values) {
  constexpr int pack = pack_size<T>;
#pragma unroll
  for (int first = 0; first < count; first += pack) {
    const uint4 raw = *reinterpret_cast<const uint4*>(p + first);
    T parts[pack];
    memcpy(parts, &raw, sizeof(raw));
#pragma unroll
    for (int j = 0; j < pack; ++j) values[first + j] = static_cast<V>(parts[j]);
  }
}
template <class T, class V> __device__ __forceinline__ void write_pack(T* p, const V* values) {
  constexpr int pack = pack_size<T>;
  T parts[pack];
#pragma unroll
  for (int j = 0; j < pack; ++j) parts[j] = static_cast<T>(values[j]);
  uint4 raw;
  memcpy(&raw, parts, sizeof(raw));
  *reinterpret_cast<uint4*>(p) = raw;
}

// One member's part of a row of T, in the accumulator's type: `packs` packs, of which number k begins at element
// (rank + k * Team::size) * pack_size<T> of the row.
template <class Team, class T, int packs> struct HeldRow {
  using V = Accumulator<T>;
  static constexpr int pack = pack_size<T>, count = packs * pack;
  V value[count];

  static __device__ __forceinline__ int begin(Team team, int k) {
    return (static_cast<int>(team.rank()) + k * Team::size) * pack;
  }

  // The row at `in`, and `none` beyond its end.
  __device__ __forceinline__ void read(Team team, int n, const T* in, V none) {
#pragma unroll
    for (int k = 0; k < packs; ++k) {
#pragma unroll
      for (int j = 0; j < pack; ++j) value[k * pack + j] = none;
      if (begin(team, k) < n) read_packs<pack>(in + begin(team, k), value + k * pack);
    }
  }
  // value = value * factor[i]
  __device__ __forceinline__ void multiply(Team team, int n, const V* factor) {
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      V factors[pack] = {};
      if (begin(team, k) < n) read_packs<pack>(factor + begin(team, k), factors);
#pragma unroll
      for (int j = 0; j < pack; ++j) value[k * pack + j] *= factors[j];
    }
  }
  template <class F> __device__ __forceinline__ void apply(F f) {
#pragma unroll
    for (int k = 0; k < count; ++k) value[k] = f(value[k]);
  }
  // out = the row, plus `added`, which may be out itself, where it is not null
  __device__ __forceinline__ void write(Team team, int n, T* out, const T* added = nullptr) const {
#pragma unroll
    for (int k = 0; k < packs; ++k) {
      if (begin(team, k) >= n) continue;
      V values[pack] = {};
      if (added) read_packs<pack>(added + begin(team, k), values);
#pragma unroll
      for (int j = 0; j < pack; ++j) values[j] = added ? values[j] + value[k * pack + j] : value[k * pack + j];
      write_pack(out + begin(team, k), values);
    }
  }
  // Sums and maxima over all members; f(k) of each element that a member holds.
  template <class F> static __device__ __forceinline__ V sum(Team team, F f) {
    V part = f(0);
#pragma unroll
    for (int k = 1; k < count; ++k) part += f(k);
    return team.sum(Team::size, [=](int64_t) { return part; });
  }
  __device__ __forceinline__ V max(Team team) const {
    V part = value[0];
#pragma unroll
    for (int k = 1; k < count; ++k) part = value[k] > part ? value[k] : part;
    return team.max(Team::size, [=](int64_t) { return part; });
  }
};

template <class Held, int packs, class Kernel>
__global__ void __launch_bounds__(block_threads) held_warp_per_row(Kernel kernel, int64_t rows) {
  const int64_t step = int64_t{gridDim.x} * warps_of_block;
  for (int64_t row = int64_t{blockIdx.x} * warps_of_block + threadIdx.x / warp_size; row < rows; row += step)
    Held::template run<packs>(kernel, WarpTeam{}, row);
}
template <class Held, int packs, class Kernel>
__global__ void __launch_bounds__(block_threads) held_block_per_row(Kernel kernel, int64_t rows) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
    Held::template run<packs>(kernel, BlockTeam<block_threads>{}, row);
}

// Runs Held::run<packs>(kernel, team, row) for every row, with as many packs to a thread as the row needs, at most
// `most` numbers. Rows that are too long or not packed go to the generic kernel.
template <class T, class Held, int most, class Kernel>
void launch_held(int device, const Kernel& kernel, int64_t rows, int64_t cols, bool packed) {
  const cudaStream_t on = stream(device);
  const auto by_warps = [&]<int packs>(std::integral_constant<int, packs>) {
    const dim3 blocks = blocks_for((rows + warps_of_block - 1) / warps_of_block);
    held_warp_per_row<Held, packs><<<blocks, block_threads, 0, on>>>(kernel, rows);
    check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
  };
  const auto by_blocks = [&]<int packs>(std::integral_constant<int, packs>) {
    const dim3 blocks = blocks_for(rows);
    held_block_per_row<Held, packs><<<blocks, block_threads, 0, on>>>(kernel, rows);
    check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
  };
  constexpr int longest = most / pack_size<T>, half = longest / 2;
  static_assert(longest >= 2);
  const int64_t n = kernel.cols, warp_pack = warp_size * pack_size<T>, block_pack = block_threads * pack_size<T>;
  if (!packed || n > longest * block_pack) return launch_rows(device, kernel, rows, cols);
  if (n <= half * warp_pack) return by_warps(std::integral_constant<int, half>());
  if (n <= longest * warp_pack) return by_warps(std::integral_constant<int, longest>());
  if (n <= half * block_pack) return by_blocks(std::integral_constant<int, half>());
  by_blocks(std::integral_constant<int, longest>());
}

}  // namespace moxie::cuda
