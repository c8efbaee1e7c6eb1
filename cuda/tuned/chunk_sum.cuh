// SPDX-License-Identifier: Apache-2.0
// Sums over lines, with a thread for every column or, of bf16, every few of them: the generic kernel's teams go over
// their columns one after the other, and wait for memory each time. Where that leaves most of the device idle, the
// warps of a block share the lines. And sums of rows by 16 bytes, a warp or a block to each.
#pragma once
#include "core/kernels/reduce/sum.h"
#include "cuda/packs.cuh"

namespace moxie::cuda {

inline constexpr int chunk_sum_threads = 256;
template <class T> inline constexpr int column_pack = std::is_same_v<T, bf16> ? 4 : 1;  // columns of a thread
inline constexpr int lines_ahead = 16;  // that are asked for before the first is added
inline constexpr int sharing_threads = 512, sharing_warps = sharing_threads / warp_size;
inline constexpr int row_threads = 1024;  // of a block that sums one row

// Whether threads can take column_pack<T> columns each.
template <class T> bool columns_are_packed(const ChunkSum<T>& kernel) {
  constexpr int64_t pack = column_pack<T>;
  return kernel.inner % pack == 0 && is_aligned(kernel.x, pack * sizeof(T));
}
// Whether rows can be read by 16 bytes.
template <class T> bool rows_are_packed(const ChunkSum<T>& kernel) {
  return kernel.inner == 1 && kernel.n % pack_size<T> == 0 && kernel.chunk % pack_size<T> == 0 && is_aligned(kernel.x);
}

// The lines of row `row` of y.
struct Lines {
  int64_t first, count;
};
template <class T> MOXIE_DEVICE Lines lines_of(const ChunkSum<T>& kernel, int64_t row) {
  const int64_t outer = row < kernel.chunks ? 0 : row / kernel.chunks;  // a division costs as much as many loads
  const int64_t first = (row - outer * kernel.chunks) * kernel.chunk, left = kernel.n - first;
  return {outer * kernel.n + first, left < kernel.chunk ? left : kernel.chunk};
}

// Columns of a strip of chunk_sum_threads * Pack, for row, row + step, ..
template <class T, int Pack>
MOXIE_DEVICE void sum_columns(const ChunkSum<T>& kernel, int64_t rows, int64_t first_row, int64_t step, int64_t strip) {
  using V = Accumulator<T>;
  struct alignas(sizeof(T) * Pack) Packed {
    T part[Pack];
  };
  const int64_t col = (strip * chunk_sum_threads + thread_index()) * Pack, n = kernel.inner;
  if (col >= n) return;
  for (int64_t row = first_row; row < rows; row += step) {
    const Lines lines = lines_of(kernel, row);
    const T* in = kernel.x + lines.first * n + col;
    V total[Pack] = {};
    const auto add = [&](const Packed& values) {
      MOXIE_UNROLL
      for (int p = 0; p < Pack; ++p) total[p] += V(values.part[p]);
    };
    int64_t k = 0;
    MOXIE_DO_NOT_UNROLL
    for (; k + lines_ahead <= lines.count; k += lines_ahead, in += lines_ahead * n) {
      Packed values[lines_ahead];
      MOXIE_UNROLL
      for (int a = 0; a < lines_ahead; ++a) values[a] = *reinterpret_cast<const Packed*>(in + a * n);
      MOXIE_UNROLL
      for (int a = 0; a < lines_ahead; ++a) add(values[a]);
    }
    MOXIE_DO_NOT_UNROLL
    for (; k < lines.count; ++k, in += n) add(*reinterpret_cast<const Packed*>(in));
    MOXIE_UNROLL
    for (int p = 0; p < Pack; ++p) kernel.y[row * n + col + p] = total[p];
  }
}

// Columns of a strip of 32: warp w adds up lines w, w + sharing_warps, .., and the first adds up the warps' sums.
template <class T> struct SharingMemory { Accumulator<T> part[sharing_warps][warp_size]; };
template <class T>
MOXIE_DEVICE void sum_shared_columns(const ChunkSum<T>& kernel, int64_t rows, int64_t first_row, int64_t step,
                                     int64_t strip, SharingMemory<T>& memory) {
  using V = Accumulator<T>;
  const int64_t n = kernel.inner, col = strip * warp_size + lane_index();
  const bool inside = col < n;
  for (int64_t row = first_row; row < rows; row += step) {
    const Lines lines = lines_of(kernel, row);
    const T* in = kernel.x + lines.first * n + (inside ? col : n - 1);
    V total = V(0);
    int64_t k = warp_index();
    MOXIE_DO_NOT_UNROLL
    for (; k + (lines_ahead - 1) * sharing_warps < lines.count; k += lines_ahead * sharing_warps) {
      T values[lines_ahead];
      MOXIE_UNROLL
      for (int a = 0; a < lines_ahead; ++a) values[a] = in[(k + a * sharing_warps) * n];
      sync_warp();  // or the compiler has loads and additions take turns, to save registers
      MOXIE_UNROLL
      for (int a = 0; a < lines_ahead; ++a) total += V(values[a]);
    }
    MOXIE_UNROLL_BY_4
    for (; k < lines.count; k += sharing_warps) total += V(in[k * n]);
    memory.part[warp_index()][lane_index()] = total;
    sync_threads();
    if (warp_index() == 0 && inside) {
      MOXIE_UNROLL
      for (int w = 1; w < sharing_warps; ++w) total += memory.part[w][lane_index()];
      kernel.y[row * n + col] = total;
    }
    sync_threads();
  }
}

// The sum of a row, by one warp.
template <class T> MOXIE_DEVICE void sum_row(const ChunkSum<T>& kernel, int64_t row) {
  const Lines part = lines_of(kernel, row);
  const float total = warp_total(sum_of_packs(kernel.x + part.first, part.count, lane_index(), warp_size));
  if (lane_index() == 0) kernel.y[row] = total;
}

// The sum of a row, by a block of row_threads.
struct RowMemory {
  float part[warp_size];
};
template <class T> MOXIE_DEVICE void sum_row_by_block(const ChunkSum<T>& kernel, int64_t row, RowMemory& memory) {
  static_assert(row_threads == warp_size * warp_size);
  const Lines part = lines_of(kernel, row);
  const float mine = warp_total(sum_of_packs(kernel.x + part.first, part.count, thread_index(), row_threads));
  if (lane_index() == 0) memory.part[warp_index()] = mine;
  sync_threads();
  if (warp_index() == 0) {
    const float total = warp_total(memory.part[lane_index()]);
    if (lane_index() == 0) kernel.y[row] = total;
  }
  sync_threads();
}

}  // namespace moxie::cuda
