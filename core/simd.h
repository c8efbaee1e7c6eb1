// SPDX-License-Identifier: Apache-2.0
// Internal: vectors of the processor's own width, sizes in whole ones, and the transpose of a matrix by them.
#pragma once
#include <cstdint>
#include <utility>

namespace moxie::simd {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

// The smallest multiple that holds `value`.
constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

template <class C> struct Simd {
  static constexpr int lanes = vector_bytes / static_cast<int>(sizeof(C));
  typedef C Vector __attribute__((vector_size(vector_bytes)));
  typedef C Memory __attribute__((vector_size(vector_bytes), aligned(alignof(C)), may_alias));
};

// One stage of a square transpose: swaps blocks of size B between the rows i and i + B.
template <class Vector, int B, int... I>
[[gnu::always_inline]] inline void swap_blocks(Vector& x, Vector& y, std::integer_sequence<int, I...>) {
  constexpr int lanes = static_cast<int>(sizeof...(I));
  const Vector low = __builtin_shufflevector(x, y, ((I & B) != 0 ? lanes + I - B : I)...);
  const Vector high = __builtin_shufflevector(x, y, ((I & B) != 0 ? lanes + I : I + B)...);
  x = low;
  y = high;
}

template <int B, class Vector, int Lanes> [[gnu::always_inline]] inline void transpose_stages(Vector (&rows)[Lanes]) {
  if constexpr (B < Lanes) {
    for (int i = 0; i < Lanes; ++i) {
      if ((i & B) == 0) swap_blocks<Vector, B>(rows[i], rows[i + B], std::make_integer_sequence<int, Lanes>{});
    }
    transpose_stages<2 * B>(rows);
  }
}

// to[j, i] = from[i, j] for i < rows, j < columns. Rows of `to` are written from their beginning to their end.
template <class C>
void transpose(const C* from, int64_t from_row, C* to, int64_t to_row, int64_t rows, int64_t columns) {
  using Memory = typename Simd<C>::Memory;
  using Vector = typename Simd<C>::Vector;
  constexpr int lanes = Simd<C>::lanes;
  const int64_t full_rows = rows / lanes * lanes, full_columns = columns / lanes * lanes;
  for (int64_t j = 0; j < full_columns; j += lanes) {
    for (int64_t i = 0; i < full_rows; i += lanes) {
      Vector block[lanes];
      for (int l = 0; l < lanes; ++l) block[l] = *reinterpret_cast<const Memory*>(from + (i + l) * from_row + j);
      transpose_stages<1>(block);
      for (int l = 0; l < lanes; ++l) *reinterpret_cast<Memory*>(to + (j + l) * to_row + i) = block[l];
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < full_rows ? full_columns : 0; j < columns; ++j) to[j * to_row + i] = from[i * from_row + j];
  }
}

}  // namespace moxie::simd
