// SPDX-License-Identifier: Apache-2.0
// Internal to core/attention*.cpp: products of small blocks in registers, on vectors of the processor's own width.
#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "core/dtype.h"
#include "core/math.h"
#include "core/simd.h"

namespace moxie::attention_cpu {

using simd::round_up;
using simd::Simd;
using simd::transpose;

#if defined(__AVX512F__)
inline constexpr int tile_rows = 12;  // with tile_vectors columns: 24 of 32 registers hold sums
#else
inline constexpr int tile_rows = 6;  // 12 of 16 registers hold sums
#endif
inline constexpr int tile_vectors = 2;

// Two bf16, the first in the lower half: an element of a product whose sums are f32.
using Pair = uint32_t;

// What products of elements E are summed in.
template <class E> using Sum = std::conditional_t<std::is_same_v<E, Pair>, float, E>;

// sum += left * right; of pairs, the products of both halves.
template <class E>
[[gnu::always_inline]] inline void multiply_add(typename Simd<Sum<E>>::Vector& sum, E left,
                                                typename Simd<E>::Vector right) {
  using Vector = typename Simd<Sum<E>>::Vector;
  if constexpr (!std::is_same_v<E, Pair>) {
    sum += left * right;
  } else {
#if defined(__AVX512BF16__)
    sum = (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(static_cast<int>(left)), (__m512bh)right);
#else
    const float first = std::bit_cast<float>(left << 16), second = std::bit_cast<float>(left & 0xFFFF0000u);
    sum += first * reinterpret_cast<Vector>(right << 16);
    sum += second * reinterpret_cast<Vector>(right & 0xFFFF0000u);
#endif
  }
}

// How many queries one column of tiles holds: they lie along the lanes of tile_vectors vectors.
template <class C> inline constexpr int64_t tile_columns = tile_vectors* Simd<C>::lanes;

// c[r, j] (+)= sum over s of a[r * a_row + s * a_step] * b[s * b_step + j], for r < rows, s < steps and all j of
// `Vectors` vectors. Of pairs c becomes `factor` times that, where it is not added to.
template <class E> struct Product {
  const E* a;
  int64_t a_row, a_step;
  const E* b;
  int64_t b_step;
  Sum<E>* c;
  int64_t c_row;
  int64_t steps;
  bool add;
  Sum<E> factor = 1;
};

// One tile of a product, its sums in registers. `UnitRow` says that a_row is 1.
template <int Rows, int Vectors, bool UnitRow, class E>
[[gnu::always_inline]] inline void multiply_tile(const Product<E>& p, const E* a, Sum<E>* c) {
  using Memory = typename Simd<Sum<E>>::Memory;
  using Vector = typename Simd<Sum<E>>::Vector;
  constexpr int64_t lanes = Simd<E>::lanes;
  const int64_t a_row = UnitRow ? 1 : p.a_row;
  Vector sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) {
      sum[r][v] = p.add ? *reinterpret_cast<const Memory*>(c + r * p.c_row + v * lanes) : Vector{};
    }
  }
  const E* b = p.b;
  for (int64_t s = 0; s < p.steps; ++s, a += p.a_step, b += p.b_step) {
    typename Simd<E>::Vector right[Vectors];
    for (int v = 0; v < Vectors; ++v) right[v] = *reinterpret_cast<const typename Simd<E>::Memory*>(b + v * lanes);
    for (int r = 0; r < Rows; ++r) {
      const E left = a[r * a_row];
      for (int v = 0; v < Vectors; ++v) multiply_add<E>(sum[r][v], left, right[v]);
    }
  }
  if constexpr (std::is_same_v<E, Pair>) {
    if (!p.add) {
      for (int r = 0; r < Rows; ++r) {
        for (int v = 0; v < Vectors; ++v) sum[r][v] *= p.factor;
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int v = 0; v < Vectors; ++v) *reinterpret_cast<Memory*>(c + r * p.c_row + v * lanes) = sum[r][v];
  }
}

template <int Rows, int Vectors, bool UnitRow, class E>
[[gnu::always_inline]] inline void multiply_rest(const Product<E>& p, const E* a, Sum<E>* c, int64_t rows) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return multiply_tile<Rows, Vectors, UnitRow>(p, a, c);
    multiply_rest<Rows - 1, Vectors, UnitRow>(p, a, c, rows);
  }
}

// The product for all rows: full tiles, then the rest in one or two tiles of nearly equal height.
template <int Vectors, bool UnitRow, class E> [[gnu::noinline]] void multiply(const Product<E>& product, int64_t rows) {
  const Product<E> p = product;  // a local copy cannot overlap with c
  const int64_t a_row = UnitRow ? 1 : p.a_row;
  int64_t r = 0;
  for (; rows - r >= 2 * tile_rows || rows - r == tile_rows; r += tile_rows) {
    multiply_tile<tile_rows, Vectors, UnitRow>(p, p.a + r * a_row, p.c + r * p.c_row);
  }
  while (r < rows) {
    const int64_t rest = rows - r;
    const int64_t height = rest > tile_rows ? (rest + 1) / 2 : rest;
    multiply_rest<tile_rows, Vectors, UnitRow>(p, p.a + r * a_row, p.c + r * p.c_row, height);
    r += height;
  }
}

// The same over `columns` columns, a multiple of the lanes.
template <bool UnitRow, class E> void multiply_columns(Product<E> p, int64_t rows, int64_t columns) {
  constexpr int64_t width = tile_columns<E>;
  const E* b = p.b;
  Sum<E>* c = p.c;
  int64_t j = 0;
  for (; j + width <= columns; j += width) {
    p.b = b + j;
    p.c = c + j;
    multiply<tile_vectors, UnitRow>(p, rows);
  }
  for (; j < columns; j += Simd<E>::lanes) {
    p.b = b + j;
    p.c = c + j;
    multiply<1, UnitRow>(p, rows);
  }
}

// e^x as the softmax needs it, without branches: x is at most 0 but for rounding. Results below 2^-126 become 0, since
// subnormal numbers would slow the products down.
[[gnu::always_inline]] inline float exponential(float x) {
  const math::detail::Ln2Split split = math::detail::split_by_ln2(x > 88.0f ? 88.0f : x);
  const float y = (math::detail::expm1_core(split.rest) + 1.0f) * math::detail::power_of_two(split.count);
  return x < -87.3f ? 0.0f : y;
}
inline double exponential(double x) { return math::exp(x); }

// s = cap tanh(s / cap), for `rows` rows of one tile.
template <class C> void soften(C* scores, int64_t rows, C cap) {
  const C inverse = C{1} / cap;
  const int64_t count = rows * tile_columns<C>;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) scores[i] = cap * math::tanh(scores[i] * inverse);
}

// The angles by which rope turns the pairs (j, j + half) of consecutive rows: cosine, sine [rows, half]; null: by none.
template <class C> struct Turn {
  const C* cosine = nullptr;
  const C* sine = nullptr;
  int64_t half = 0;
  Turn from(int64_t row) const {
    return cosine == nullptr ? *this : Turn{cosine + row * half, sine + row * half, half};
  }
};

// y = factor * x of `columns` elements, turned by the angles of row i, or back by them.
template <class X, class Y, class C>
[[gnu::always_inline]] inline void turn_row(const X* x, Y* y, int64_t columns, C factor, const Turn<C>& turn, int64_t i,
                                            bool back) {
  if (turn.cosine == nullptr) {
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) assign(y[j], static_cast<C>(x[j]) * factor);
    return;
  }
  const int64_t half = turn.half;
  const C *cosine = turn.cosine + i * half, *sine = turn.sine + i * half;
  const C sign = back ? -factor : factor;
#pragma omp simd
  for (int64_t j = 0; j < half; ++j) {
    const C a = static_cast<C>(x[j]), b = static_cast<C>(x[j + half]), c = cosine[j] * factor, s = sine[j] * sign;
    assign(y[j], a * c - b * s);
    assign(y[j + half], b * c + a * s);
  }
}

// to[i, j] = factor * from[i, j], turned; zero for j from `columns` to `padded`.
template <class T, class C>
void copy_rows(const T* from, int64_t from_row, C* to, int64_t rows, int64_t columns, int64_t padded, C factor,
               const Turn<C>& turn = {}) {
  for (int64_t i = 0; i < rows; ++i) {
    C* y = to + i * padded;
    turn_row(from + i * from_row, y, columns, factor, turn, i, false);
    for (int64_t j = columns; j < padded; ++j) y[j] = 0;
  }
}

// to[i, j] = factor * from[i, j], turned back.
template <class T, class C>
void store_rows(const C* from, int64_t from_row, T* to, int64_t to_row, int64_t rows, int64_t columns, C factor,
                const Turn<C>& turn = {}) {
  for (int64_t i = 0; i < rows; ++i) turn_row(from + i * from_row, to + i * to_row, columns, factor, turn, i, true);
}

// True where no element of the block is inf or NaN.
template <class C> bool all_finite(const C* x, int64_t row, int64_t rows, int64_t columns) {
  using Memory = typename Simd<C>::Memory;
  constexpr int64_t lanes = Simd<C>::lanes;
  typename Simd<C>::Vector sums{};
  C sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    int64_t j = 0;
    for (; j + lanes <= columns; j += lanes) sums += *reinterpret_cast<const Memory*>(x + i * row + j) * C{0};
    for (; j < columns; ++j) sum += x[i * row + j] * C{0};
  }
  for (int l = 0; l < lanes; ++l) sum += sums[l];
  return sum == 0;
}

}  // namespace moxie::attention_cpu
