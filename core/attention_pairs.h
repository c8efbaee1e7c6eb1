// SPDX-License-Identifier: Apache-2.0
// Internal to core/attention*.cpp: what the operands of the products are made of. Where the processor multiplies bf16
// (AVX512-BF16), a bf16 problem's are pairs of bf16, which one instruction multiplies and adds to a sum in f32: half of
// the instructions of f32. Elsewhere that instruction is spelled out, for tests alone.
#pragma once
#include <algorithm>
#include <type_traits>

#include "core/attention_tiles.h"

namespace moxie::attention_cpu {

// Elements are numbers of the sums' own type.
template <class C> struct Whole {
  using Scalar = C;
  using Element = C;
  static constexpr int64_t group = 1;  // numbers in an element
};
// Elements are two bf16 that follow each other along the sum.
struct Pairs {
  using Scalar = float;
  using Element = Pair;
  static constexpr int64_t group = 2;
};

// What forward() and backward() compute a problem of type T in.
#if defined(__AVX512BF16__)
template <class T> using Arithmetic = std::conditional_t<std::is_same_v<T, bf16>, Pairs, Whole<Accumulator<T>>>;
#else
template <class T> using Arithmetic = Whole<Accumulator<T>>;
#endif

// How many elements hold `count` numbers of a sum.
template <class A> constexpr int64_t elements_of(int64_t count) { return (count + A::group - 1) / A::group; }

// The bits of x rounded to bf16, in the upper half; what is in the lower half does not matter.
[[gnu::always_inline]] inline auto rounded_bits(Simd<float>::Vector x) {
  using Bits = Simd<Pair>::Vector;
  const Bits bits = reinterpret_cast<Bits>(x);
  const Bits rounded = bits + 0x7FFFu + (bits >> 16 & 1u);
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? bits | 0x400000u : rounded;
}

// to[i, s] = the elements 2 s and 2 s + 1 of row i, in bf16; `columns` is a multiple of the lanes.
inline void pair_columns(const float* from, int64_t from_row, int64_t rows, int64_t columns, Pair* to, int64_t to_row) {
  using Memory = Simd<float>::Memory;
  constexpr int64_t lanes = Simd<float>::lanes;
  typedef uint16_t Halves __attribute__((vector_size(2 * lanes)));
  typedef uint16_t HalvesMemory __attribute__((vector_size(2 * lanes), aligned(2), may_alias));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; j += lanes) {
      const auto x = *reinterpret_cast<const Memory*>(from + i * from_row + j);
#if defined(__AVX512BF16__)
      const auto halves = reinterpret_cast<Halves>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(x)));
#else
      const auto halves = __builtin_convertvector(rounded_bits(x) >> 16, Halves);
#endif
      *reinterpret_cast<HalvesMemory*>(to + i * to_row + j / 2) = halves;
    }
  }
}

// to[s, j] = the elements of rows 2 s and 2 s + 1 in column j, in bf16, zero for a row that is missing; `columns` is a
// multiple of the lanes.
inline void pair_rows(const float* from, int64_t from_row, int64_t rows, int64_t columns, Pair* to, int64_t to_row) {
  using Vector = Simd<float>::Vector;
  using Memory = Simd<float>::Memory;
  using PairMemory = Simd<Pair>::Memory;
  constexpr int64_t lanes = Simd<float>::lanes;
  for (int64_t i = 0; i < rows; i += 2) {
    for (int64_t j = 0; j < columns; j += lanes) {
      const float* at = from + i * from_row + j;
      const Vector first = *reinterpret_cast<const Memory*>(at);
      Vector second{};
      if (i + 1 < rows) second = *reinterpret_cast<const Memory*>(at + from_row);
#if defined(__AVX512BF16__)
      typedef uint16_t Halves __attribute__((vector_size(2 * lanes)));
      using Words = Simd<Pair>::Vector;
      const auto pairs = __builtin_convertvector((Halves)_mm512_cvtneps_pbh((__m512)first), Words) |
                         __builtin_convertvector((Halves)_mm512_cvtneps_pbh((__m512)second), Words) << 16;
#else
      const auto pairs = rounded_bits(first) >> 16 | (rounded_bits(second) & 0xFFFF0000u);
#endif
      *reinterpret_cast<PairMemory*>(to + i / 2 * to_row + j) = pairs;
    }
  }
}

// Element j of a row of elements, as a number.
template <class C> C number_at(const C* row, int64_t j) { return row[j]; }
inline float number_at(const Pair* row, int64_t j) {
  return std::bit_cast<float>(j % 2 == 0 ? row[j / 2] << 16 : row[j / 2] & 0xFFFF0000u);
}

// True where none of the first `columns` numbers of a row is inf or NaN.
inline bool all_finite(const Pair* x, int64_t row, int64_t rows, int64_t columns) {
  Pair special = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const Pair* at = x + i * row;
#pragma omp simd reduction(| : special)
    for (int64_t j = 0; j < (columns + 1) / 2; ++j) {
      special |=
          static_cast<Pair>((at[j] & 0x7F80u) == 0x7F80u) | static_cast<Pair>((at[j] >> 16 & 0x7F80u) == 0x7F80u);
    }
  }
  return special == 0;
}

}  // namespace moxie::attention_cpu
