// SPDX-License-Identifier: Apache-2.0
// moxie's own matmul kernel: operands are packed into panels that fit the caches, and a tile of C stays in registers.
#include <algorithm>

#include "core/gemm_block.h"

namespace moxie::gemm_detail {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, tile_rows = 12;
#elif defined(__AVX__)
constexpr int vector_bytes = 32, tile_rows = 6;
#else
constexpr int vector_bytes = 16, tile_rows = 6;
#endif

template <class T> struct Tile {
  typedef T Vector __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
  static constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));
  static constexpr int rows = tile_rows;
  static constexpr int cols = 2 * lanes;
  // A panel of A, block_rows x block_depth, lives in L2; a strip of B, cols x block_depth, in L1.
  static constexpr int64_t block_rows = 96;
  static constexpr int64_t block_depth = 256;
  static constexpr int64_t block_cols = 4096 / static_cast<int64_t>(sizeof(T));
};

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Packs `width` x `depth` elements as strips [depth][strip], padded with zeros to a multiple of strip.
// contiguous: neighbours in the direction of the strip are neighbours in memory.
template <class T>
void pack(bool contiguous, const T* source, int64_t ld, int64_t width, int64_t depth, int strip, T* target) {
  for (int64_t first = 0; first < width; first += strip, target += strip * depth) {
    const int64_t used = std::min<int64_t>(strip, width - first);
    if (used < strip) std::fill(target, target + strip * depth, T(0));
    if (contiguous) {
      const T* in = source + first;
      for (int64_t p = 0; p < depth; ++p) {
        const T* line = in + p * ld;
        T* out = target + p * strip;
        for (int64_t i = 0; i < used; ++i) out[i] = line[i];
      }
    } else {
      const T* in = source + first * ld;
      for (int64_t i = 0; i < used; ++i) {
        const T* line = in + i * ld;
        for (int64_t p = 0; p < depth; ++p) target[p * strip + i] = line[p];
      }
    }
  }
}

// tile [rows, cols] = strip of A times strip of B, added to c or written over it.
template <class T>
__attribute__((noinline)) void multiply_tile(int64_t depth, const T* a, const T* b, T* c, int64_t ldc, bool add) {
  using Vector = typename Tile<T>::Vector;
  constexpr int rows = Tile<T>::rows, lanes = Tile<T>::lanes, cols = Tile<T>::cols;
  Vector sum[rows][2] = {};
  for (int64_t p = 0; p < depth; ++p, a += rows, b += cols) {
    const Vector b0 = *reinterpret_cast<const Vector*>(b);
    const Vector b1 = *reinterpret_cast<const Vector*>(b + lanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      sum[i][0] += a[i] * b0;
      sum[i][1] += a[i] * b1;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    Vector* out0 = reinterpret_cast<Vector*>(c + i * ldc);
    Vector* out1 = reinterpret_cast<Vector*>(c + i * ldc + lanes);
    *out0 = add ? *out0 + sum[i][0] : sum[i][0];
    *out1 = add ? *out1 + sum[i][1] : sum[i][1];
  }
}

template <class T>
void multiply_panels(int64_t m, int64_t n, int64_t depth, const T* a, const T* b, T* c, int64_t ldc, bool add) {
  constexpr int rows = Tile<T>::rows, cols = Tile<T>::cols;
  alignas(64) T edge[rows * cols];
  for (int64_t j = 0; j < n; j += cols) {
    for (int64_t i = 0; i < m; i += rows) {
      T* out = c + i * ldc + j;
      if (i + rows <= m && j + cols <= n) {
        multiply_tile<T>(depth, a + i * depth, b + j * depth, out, ldc, add);
        continue;
      }
      multiply_tile<T>(depth, a + i * depth, b + j * depth, edge, cols, false);
      const int64_t height = std::min<int64_t>(rows, m - i), width = std::min<int64_t>(cols, n - j);
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) {
          const T value = edge[y * cols + x];
          out[y * ldc + x] = add ? out[y * ldc + x] + value : value;
        }
      }
    }
  }
}

template <class T> void multiply(const Gemm& g) {
  using Shape = Tile<T>;
  const T* a = static_cast<const T*>(g.a);
  const T* b = static_cast<const T*>(g.b);
  T* c = static_cast<T*>(g.c);
  const int64_t depth_most = std::min(g.k, Shape::block_depth);
  const int64_t size_a = round_up(std::min(g.m, Shape::block_rows), Shape::rows) * depth_most;
  const int64_t size_b = round_up(std::min(g.n, Shape::block_cols), Shape::cols) * depth_most;
  T* panel_a = static_cast<T*>(scratch(Scratch::panel_a, size_a * static_cast<int64_t>(sizeof(T))));
  T* panel_b = static_cast<T*>(scratch(Scratch::panel_b, size_b * static_cast<int64_t>(sizeof(T))));
  for (int64_t j = 0; j < g.n; j += Shape::block_cols) {
    const int64_t width = std::min(Shape::block_cols, g.n - j);
    for (int64_t p = 0; p < g.k; p += Shape::block_depth) {
      const int64_t depth = std::min(Shape::block_depth, g.k - p);
      const T* from_b = g.transpose_b ? b + j * g.ldb + p : b + p * g.ldb + j;
      pack(!g.transpose_b, from_b, g.ldb, width, depth, Shape::cols, panel_b);
      for (int64_t i = 0; i < g.m; i += Shape::block_rows) {
        const int64_t height = std::min(Shape::block_rows, g.m - i);
        const T* from_a = g.transpose_a ? a + p * g.lda + i : a + i * g.lda + p;
        pack(g.transpose_a, from_a, g.lda, height, depth, Shape::rows, panel_a);
        multiply_panels<T>(height, width, depth, panel_a, panel_b, c + i * g.ldc + j, g.ldc, g.accumulate || p > 0);
      }
    }
  }
}

}  // namespace

void multiply_own_f64(const Gemm& block) { multiply<double>(block); }
void multiply_own_f32(const Gemm& block) { multiply<float>(block); }

}  // namespace moxie::gemm_detail
