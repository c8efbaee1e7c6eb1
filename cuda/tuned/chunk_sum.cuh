// SPDX-License-Identifier: Apache-2.0
// Sums over lines, with a thread for every column or, of bf16, every few of them: the generic kernel's teams go over
// their columns one after the other, and wait for memory each time. And sums of rows in bf16, a warp to each.
#pragma once
#include "core/kernels/reduce/sum.h"
#include "cuda/packs.cuh"

namespace moxie::cuda {

inline constexpr int chunk_sum_threads = 256;
template <class T> inline constexpr int column_pack = std::is_same_v<T, bf16> ? 4 : 1;  // columns of a thread

// Whether threads can take column_pack<T> columns each.
template <class T> bool columns_are_packed(const ChunkSum<T>& kernel) {
  constexpr int64_t pack = column_pack<T>;
  return kernel.inner % pack == 0 && reinterpret_cast<uintptr_t>(kernel.x) % (pack * sizeof(T)) == 0;
}
// Whether rows can be read by 16 bytes.
template <class T> bool rows_are_packed(const ChunkSum<T>& kernel) {
  return kernel.inner == 1 && kernel.n % pack_size<T> == 0 && kernel.chunk % pack_size<T> == 0 &&
         reinterpret_cast<uintptr_t>(kernel.x) % 16 == 0;
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
    const int64_t first = row % kernel.chunks * kernel.chunk;
    const int64_t left = kernel.n - first, lines = left < kernel.chunk ? left : kernel.chunk;
    const T* in = kernel.x + (row / kernel.chunks * kernel.n + first) * n + col;
    V total[Pack] = {};
    MOXIE_UNROLL_BY_16
    for (int64_t k = 0; k < lines; ++k) {
      const Packed values = *reinterpret_cast<const Packed*>(in + k * n);
      MOXIE_UNROLL
      for (int p = 0; p < Pack; ++p) total[p] += V(values.part[p]);
    }
    MOXIE_UNROLL
    for (int p = 0; p < Pack; ++p) kernel.y[row * n + col + p] = total[p];
  }
}

// The sum of a row, by one warp.
template <class T> MOXIE_DEVICE void sum_row(const ChunkSum<T>& kernel, int64_t row) {
  const int64_t first = row % kernel.chunks * kernel.chunk, left = kernel.n - first;
  const float total =
      sum_of_row(kernel.x + row / kernel.chunks * kernel.n + first, left < kernel.chunk ? left : kernel.chunk);
  if (lane_index() == 0) kernel.y[row] = total;
}

}  // namespace moxie::cuda
