// SPDX-License-Identifier: Apache-2.0
// moxie's own matmul kernel: B is packed into panels that stay in L2, A is read in place (packed where it is stored
// transposed), and a tile of C stays in registers.
#include <algorithm>
#include <array>
#include <utility>

#include "core/gemm_block.h"
#include "core/simd.h"

namespace moxie::gemm_detail {
namespace {

using simd::round_up;

// A tile of C: as many rows and vectors of columns as leave registers for a row of B and a number of A.
#if defined(__AVX512F__)
constexpr int tile_rows = 8, tile_vectors = 3;
#elif defined(__AVX__)
constexpr int tile_rows = 4, tile_vectors = 3;
#else
constexpr int tile_rows = 4, tile_vectors = 2;
#endif

template <class T> constexpr int lanes = simd::Simd<T>::lanes;
template <class T> constexpr int tile_cols = tile_vectors* simd::Simd<T>::lanes;
// Columns of B that are packed at a time, block_depth deep: half of an L2 of 1 MiB.
template <class T> constexpr int64_t block_cols = round_up(2048 / sizeof(T), tile_cols<T>);
// Slabs of a transposed A that are packed together: what a cache line has numbers for.
template <class T>
constexpr int64_t slabs_packed = std::max<int64_t>(1, 64 / (tile_rows * static_cast<int64_t>(sizeof(T))));
// So few rows of A don't pay for a copy of B.
constexpr int64_t few_rows = 2 * tile_rows;

// c [rows, vectors] (+)= a b. Rows of b are b_row apart. In a packed a the numbers of a product lie side by side, and
// those of the next tile_rows further; else its rows are a_row apart.
template <class T, int rows, int vectors, bool packed>
__attribute__((noinline)) void multiply_tile(int64_t depth, const T* a, int64_t a_row, const T* b, int64_t b_row, T* c,
                                             int64_t c_row, bool add) {
  using Vector = typename simd::Simd<T>::Vector;
  using Memory = typename simd::Simd<T>::Memory;
  constexpr int threes = (rows + 2) / 3;
  Vector sum[rows][vectors] = {};
  // Three rows from each of these pointers: what an address can hold is a base and a register once or twice.
  const T* third[threes];
  for (int t = 0; t < threes; ++t) third[t] = packed ? a : a + t * 3 * a_row;
  int64_t p = 0;
  for (int part = 0; part < rows; ++part) {
    // C's rows are asked for one by one: all at once they would keep B waiting.
    for (int v = 0; v < vectors; ++v) __builtin_prefetch(c + part * c_row + v * lanes<T>, 1);
#pragma GCC unroll 2
    for (const int64_t end = depth * (part + 1) / rows; p < end; ++p, b += b_row) {
      Vector right[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) right[v] = *reinterpret_cast<const Memory*>(b + v * lanes<T>);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const T left = packed ? a[p * tile_rows + i] : third[i / 3][i % 3 * a_row + p];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[i][v] += left * right[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      Memory& out = *reinterpret_cast<Memory*>(c + i * c_row + v * lanes<T>);
      out = add ? out + sum[i][v] : sum[i][v];
    }
  }
}

// multiply_tile of 1 to tile_rows rows and 1 to tile_vectors vectors.
template <class T, bool packed> struct Tiles {
  using Function = void (*)(int64_t, const T*, int64_t, const T*, int64_t, T*, int64_t, bool);
  template <int... I> static constexpr auto table(std::integer_sequence<int, I...>) {
    return std::array<Function, sizeof...(I)>{multiply_tile<T, I / tile_vectors + 1, I % tile_vectors + 1, packed>...};
  }
  static constexpr auto all = table(std::make_integer_sequence<int, tile_rows * tile_vectors>{});
  static Function of(int64_t rows, int64_t vectors) {
    return all[static_cast<size_t>((rows - 1) * tile_vectors + vectors - 1)];
  }
};

// A panel [depth][width] of B's columns, padded with zeros to whole vectors.
template <class T> void pack_panel(bool transposed, const T* from, int64_t ld, int64_t depth, int64_t cols, T* to) {
  const int64_t width = round_up(cols, lanes<T>);
  if (width != cols) std::fill_n(to, depth * width, T(0));
  if (transposed) return simd::transpose<T>(from, ld, to, width, cols, depth);
  for (int64_t p = 0; p < depth; ++p) std::copy_n(from + p * ld, cols, to + p * width);
}

// Slabs [depth][tile_rows] of a transposed A, as many as a cache line has numbers for.
template <class T> void pack_slabs(const T* from, int64_t ld, int64_t depth, int64_t rows, T* to) {
  constexpr int64_t most = slabs_packed<T> * tile_rows;
  for (int64_t p = 0; p < depth; ++p, from += ld, to += tile_rows) {
    if (rows >= most) {
      for (int64_t i = 0; i < most; i += tile_rows) std::copy_n(from + i, tile_rows, to + i * depth);
    } else {
      for (int64_t i = 0; i < rows; ++i) to[i / tile_rows * tile_rows * depth + i % tile_rows] = from[i];
    }
  }
}

// C (+)= op(A) op(B) for k up to block_depth and n up to block_cols. `panels` and `slabs` hold what is packed.
template <class T, bool packed> void multiply_slabs(const Gemm& g, T* panels, T* slabs) {
  const T *a = static_cast<const T*>(g.a), *b = static_cast<const T*>(g.b);
  T* c = static_cast<T*>(g.c);
  constexpr int64_t group = (packed ? slabs_packed<T> : 1) * tile_rows;  // rows of A that are read together
  for (int64_t i = 0; i < g.m; i += tile_rows) {
    const int64_t rows = std::min<int64_t>(tile_rows, g.m - i);
    if (packed && i % group == 0) pack_slabs(a + i, g.lda, g.k, g.m - i, slabs);
    const T* left = packed ? slabs + i % group * g.k : a + i * g.lda;
    for (int64_t j = 0; j < g.n; j += tile_cols<T>) {
      const int64_t cols = std::min<int64_t>(tile_cols<T>, g.n - j), width = round_up(cols, lanes<T>);
      const bool whole = cols == width, in_place = whole && !g.transpose_b && g.m <= few_rows;
      const T* from = g.transpose_b ? b + j * g.ldb : b + j;
      T* panel = panels + j * g.k;
      if (i == 0 && !in_place) pack_panel(g.transpose_b, from, g.ldb, g.k, cols, panel);
      const T* right = in_place ? from : panel;
      const int64_t right_row = in_place ? g.ldb : width;
      T* out = c + i * g.ldc + j;
      const auto tile = Tiles<T, packed>::of(rows, width / lanes<T>);
      if (whole) {
        tile(g.k, left, g.lda, right, right_row, out, g.ldc, g.accumulate);
        continue;
      }
      alignas(64) T edge[tile_rows * tile_cols<T>];
      tile(g.k, left, g.lda, right, right_row, edge, tile_cols<T>, false);
      for (int64_t y = 0; y < rows; ++y) {
        for (int64_t x = 0; x < cols; ++x) {
          const T value = edge[y * tile_cols<T> + x];
          out[y * g.ldc + x] = g.accumulate ? out[y * g.ldc + x] + value : value;
        }
      }
    }
  }
}

template <class T> void multiply(const Gemm& g) {
  constexpr auto size = static_cast<int64_t>(sizeof(T));
  const int64_t depth_most = std::min(g.k, block_depth), cols_most = std::min(round_up(g.n, lanes<T>), block_cols<T>);
  T* panels = static_cast<T*>(scratch(Scratch::panel_b, cols_most * depth_most * size));
  T* slabs = static_cast<T*>(scratch(Scratch::panel_a, slabs_packed<T> * tile_rows * depth_most * size));
  for (int64_t j = 0; j < g.n; j += block_cols<T>) {
    Gemm block = g;
    block.n = std::min(block_cols<T>, g.n - j);
    block.c = static_cast<T*>(g.c) + j;
    for (int64_t p = 0; p < g.k; p += block_depth) {
      block.k = std::min(block_depth, g.k - p);
      block.a = static_cast<const T*>(g.a) + (g.transpose_a ? p * g.lda : p);
      block.b = static_cast<const T*>(g.b) + (g.transpose_b ? j * g.ldb + p : p * g.ldb + j);
      if (g.transpose_a)
        multiply_slabs<T, true>(block, panels, slabs);
      else
        multiply_slabs<T, false>(block, panels, slabs);
      block.accumulate = true;
    }
  }
}

}  // namespace

void multiply_own_f64(const Gemm& block) { multiply<double>(block); }
void multiply_own_f32(const Gemm& block) { multiply<float>(block); }

}  // namespace moxie::gemm_detail
