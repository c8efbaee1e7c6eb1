// SPDX-License-Identifier: Apache-2.0
// Transposes through shared memory: a warp reads along x and writes along y, where the generic kernel's threads read
// lines that lie apart. Where both begin and end at multiples of 4 bytes, several short numbers move at once.
#pragma once
#include "core/kernels/shape/strided_copy.h"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

inline constexpr int transpose_threads = 256;
// The side of a tile: 128 bytes in a line, and 4 bytes for each thread.
template <class T> inline constexpr int transpose_side = sizeof(T) < 4 ? 64 : 32;
template <class T> inline constexpr int transpose_row = transpose_side<T> + 1;  // odd: neither direction meets one bank

template <class T> inline constexpr int transpose_pack = sizeof(T) < 4 ? 4 / static_cast<int>(sizeof(T)) : 1;

// Whether all tiles can move in packs.
template <class T> bool transpose_is_packed(const TransposeCopy<T>& kernel) {
  constexpr int64_t pack = transpose_pack<T>;
  const auto fits = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % (pack * sizeof(T)) == 0; };
  bool packed = fits(kernel.x) && fits(kernel.y);
  for (int i = 0; i < kernel.rank; ++i) packed = packed && (i == kernel.across || kernel.stride[i] % pack == 0);
  return packed && kernel.size[kernel.across] % pack == 0 && kernel.size[kernel.rank - 1] % pack == 0;
}
template <class T> int64_t transpose_tiles(const TransposeCopy<T>& kernel) {
  return kernel.all_tiles(transpose_side<T>);
}

// The block's shared memory.
template <class T> struct TransposeMemory {
  T values[transpose_side<T> * transpose_row<T>];
  alignas(16) typename TransposeCopy<T>::Place at;
};

template <class T, int Pack>
MOXIE_DEVICE void transpose_tile(const TransposeCopy<T>& kernel, int64_t tile, TransposeMemory<T>& memory) {
  struct alignas(sizeof(T) * Pack) Packed {
    T part[Pack];
  };
  constexpr int side = transpose_side<T>, row = transpose_row<T>;
  constexpr int threads_of_line = side / Pack, lines_at_once = transpose_threads / threads_of_line;
  constexpr int steps = side / lines_at_once;
  const int line = thread_index() / threads_of_line, column = thread_index() % threads_of_line * Pack;
  if (thread_index() == 0) memory.at = kernel.place(tile, side);  // divisions, which one thread does for all
  sync_threads();
  const auto at = memory.at;
  Packed moved[steps];
  MOXIE_UNROLL
  for (int k = 0; k < steps; ++k) {
    const int i = line + k * lines_at_once;
    if (i < at.width && column < at.height)
      moved[k] = *reinterpret_cast<const Packed*>(kernel.x + at.from + column + i * at.step);
  }
  MOXIE_UNROLL
  for (int k = 0; k < steps; ++k) {
    const int i = line + k * lines_at_once;
    if (i >= at.width || column >= at.height) continue;
    MOXIE_UNROLL
    for (int p = 0; p < Pack; ++p) memory.values[i * row + column + p] = moved[k].part[p];
  }
  sync_threads();
  MOXIE_UNROLL
  for (int k = 0; k < steps; ++k) {
    const int j = line + k * lines_at_once;
    if (j >= at.height || column >= at.width) continue;
    Packed packed;
    MOXIE_UNROLL
    for (int p = 0; p < Pack; ++p) packed.part[p] = memory.values[(column + p) * row + j];
    *reinterpret_cast<Packed*>(kernel.y + at.to + j * at.apart + column) = packed;
  }
  sync_threads();
}

}  // namespace moxie::cuda
