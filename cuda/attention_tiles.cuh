// SPDX-License-Identifier: Apache-2.0
// What the tensor-core attention kernels share: tiles of bf16 rows in swizzled shared memory and their products.
//
// A tile is [rows][D] with the 16-byte pieces of each row permuted, so that the eight rows that one ldmatrix phase
// reads lie in different banks. Products are made of mma.m16n8k16: a warp owns M * 16 rows of the result, held as float
// [M][columns / 8][4]; of each 16 x 8 piece a lane holds the columns 2 * (lane % 4) and + 1 of the rows lane / 4
// (elements 0, 1) and lane / 4 + 8 (elements 2, 3).
#pragma once
#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "cuda/attention_visibility.cuh"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

inline constexpr int attention_warps = 4;
inline constexpr int attention_threads = warp_size * attention_warps;

// 2^x with a relative error of at most 2^-22; 2^-inf = 0, and below 2^-126 everything is 0.
#ifdef __CUDACC__
MOXIE_DEVICE float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#else
inline float exp2_approximate(float x) { return std::exp2(x); }
#endif

// The tile whose first row is at `base`; addresses count bytes.
template <int D> struct Tile {
  static_assert(D % 32 == 0);
  static constexpr int row_bytes = 2 * D;
  // Rows of a multiple of 128 bytes begin at the same bank; others (D = 32, 96) every second one.
  static constexpr bool whole_lines = D % 64 == 0;
  static constexpr int period = whole_lines ? 8 : 4;  // pieces are permuted among so many neighbours

  static constexpr uint32_t bytes(int rows) { return static_cast<uint32_t>(rows * row_bytes); }

  static MOXIE_DEVICE int swizzle(int row) { return whole_lines ? row & 7 : (row >> 1) & 3; }

  // The address of the 16-byte piece `piece` of a row.
  static MOXIE_DEVICE uint32_t at(uint32_t base, int row, int piece) {
    return base + static_cast<uint32_t>(row * row_bytes + ((piece ^ swizzle(row)) << 4));
  }

  // Where this thread begins to read rows that lie `stride` elements apart.
  static MOXIE_DEVICE const bf16* cursor(const bf16* from, int64_t stride) {
    return from + thread_index() / period * stride + thread_index() % period * 8;
  }

  // Begins copying the `Rows` rows at the block's cursors, of which the first `valid` exist, and zeros for the others;
  // moves the cursors to the rows after them. Every thread of the block takes part.
  template <int Rows> static MOXIE_DEVICE void load(uint32_t base, const bf16*& cursor, int64_t stride, int valid) {
    constexpr int rows_at_once = attention_threads / period;
    static_assert(Rows % rows_at_once == 0 && rows_at_once % 8 == 0);
    const int row = thread_index() / period;
    const uint32_t to = at(base, row, thread_index() % period);
    MOXIE_UNROLL
    for (int r = 0; r < Rows; r += rows_at_once) {
      MOXIE_UNROLL
      for (int c = 0; c < D / 8; c += period) {
        copy_async_16(to + static_cast<uint32_t>(r * row_bytes + c * 16), cursor + c * 8, row + r < valid);
      }
      cursor += rows_at_once * stride;
    }
  }

  // The address `pieces` pieces, an even number, further along its row than `address`, whose piece is 0 or 1. The base
  // of the tile must be a multiple of 128.
  static MOXIE_DEVICE uint32_t along(uint32_t address, int pieces) {
    return (address ^ static_cast<uint32_t>((pieces & (period - 1)) << 4)) +
           static_cast<uint32_t>((pieces & ~(period - 1)) << 4);
  }
};

// Sets every number to zero.
template <int M, int N> MOXIE_DEVICE void clear(float (&c)[M][N][4]) {
  MOXIE_UNROLL
  for (int m = 0; m < M; ++m) {
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) c[m][n][0] = c[m][n][1] = c[m][n][2] = c[m][n][3] = 0;
  }
}

template <int M, int N> MOXIE_DEVICE void scale_rows(float (&c)[M][N][4], float factor) {
  MOXIE_UNROLL
  for (int m = 0; m < M; ++m) {
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) {
      MOXIE_UNROLL
      for (int i = 0; i < 4; ++i) c[m][n][i] *= factor;
    }
  }
}

// Makes the scores of queries that don't see their key -inf; `row` and `column` are the query and the key of the lane's
// first score.
template <int M, int N>
MOXIE_DEVICE void hide(float (&scores)[M][N][4], const Visibility& visibility, int row, int column) {
  MOXIE_UNROLL
  for (int m = 0; m < M; ++m) {
    MOXIE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int query = row + m * 16 + half * 8;
      const int first = visibility.first_key(query), end = visibility.end_key(query);
      MOXIE_UNROLL
      for (int n = 0; n < N; ++n) {
        MOXIE_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int key = column + n * 8 + i;
          if (key < first || key >= end) scores[m][n][half * 2 + i] = -INFINITY;
        }
      }
    }
  }
}

// The same for transposed scores: `row` and `column` are the key and the query of the lane's first score.
template <int M, int N>
MOXIE_DEVICE void hide_transposed(float (&scores)[M][N][4], const Visibility& visibility, int row, int column) {
  MOXIE_UNROLL
  for (int m = 0; m < M; ++m) {
    MOXIE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int key = row + m * 16 + half * 8;
      const int first = visibility.first_query(key), end = key < visibility.k_length ? visibility.end_query(key) : 0;
      MOXIE_UNROLL
      for (int n = 0; n < N; ++n) {
        MOXIE_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int query = column + n * 8 + i;
          if (query < first || query >= end) scores[m][n][half * 2 + i] = -INFINITY;
        }
      }
    }
  }
}

// c = a b^T with a the M * 16 rows from first_row on of one tile and b the first N * 8 rows of another.
template <int D, int M, int N>
MOXIE_DEVICE void multiply_rows(float (&c)[M][N][4], uint32_t a, int first_row, uint32_t b) {
  static_assert(N % 2 == 0);
  const int lane = lane_index();
  // Of a, the four 8 x 8 matrices of a load are (rows, columns) (low, low), (high, low), (low, high), (high, high); of
  // b (low, low), (low, high), (high, low), (high, high).
  const uint32_t a_at = Tile<D>::at(a, first_row + lane % 16, lane / 16);
  const uint32_t b_at = Tile<D>::at(b, lane / 16 * 8 + lane % 8, lane / 8 % 2);
  clear(c);
  MOXIE_UNROLL
  for (int k = 0; k < D / 8; k += 2) {
    uint32_t left[M][4];
    MOXIE_UNROLL
    for (int m = 0; m < M; ++m) load_matrices(left[m], Tile<D>::along(a_at, k) + Tile<D>::bytes(m * 16));
    MOXIE_UNROLL
    for (int n = 0; n < N; n += 2) {
      uint32_t right[4];
      load_matrices(right, Tile<D>::along(b_at, k) + Tile<D>::bytes(n * 8));
      MOXIE_UNROLL
      for (int m = 0; m < M; ++m) {
        multiply_add(c[m][n], left[m], right[0], right[1]);
        multiply_add(c[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

// c += p b with p [M * 16 rows][K], rounded to bf16, and b the first K rows of a tile.
template <int D, int M, int K>
MOXIE_DEVICE void accumulate_rows(float (&c)[M][D / 8][4], const uint32_t (&p)[M][K / 16][4], uint32_t b) {
  const int lane = lane_index();
  // The 8 x 8 matrices of b: (rows, columns) (low, low), (high, low), (low, high), (high, high).
  const uint32_t b_at = Tile<D>::at(b, lane % 16, lane / 16);
  MOXIE_UNROLL
  for (int k = 0; k < K / 16; ++k) {
    MOXIE_UNROLL
    for (int n = 0; n < D / 8; n += 2) {
      uint32_t right[4];
      load_matrices_transposed(right, Tile<D>::along(b_at, n) + Tile<D>::bytes(k * 16));
      MOXIE_UNROLL
      for (int m = 0; m < M; ++m) {
        multiply_add(c[m][n], p[m][k], right[0], right[1]);
        multiply_add(c[m][n + 1], p[m][k], right[2], right[3]);
      }
    }
  }
}

// Rounds a product to bf16 in the form in which the next one takes it as its left side.
template <int M, int N> MOXIE_DEVICE void round_rows(uint32_t (&to)[M][N / 2][4], const float (&from)[M][N][4]) {
  MOXIE_UNROLL
  for (int m = 0; m < M; ++m) {
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) {
      to[m][n / 2][n % 2 * 2] = pack_bf16(from[m][n][0], from[m][n][1]);
      to[m][n / 2][n % 2 * 2 + 1] = pack_bf16(from[m][n][2], from[m][n][3]);
    }
  }
}

// Writes the warp's M * 16 rows, of which the first `valid` exist, by way of `tile`, of which only this warp may use
// the rows from first_row on.
template <int D, int M>
MOXIE_DEVICE void store_rows(const float (&c)[M][D / 8][4], uint32_t tile, int first_row, bf16* to, int64_t stride,
                             int valid) {
  const int lane = lane_index();
  MOXIE_UNROLL
  for (int m = 0; m < M; ++m) {
    MOXIE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + m * 16 + half * 8 + lane / 4;
      MOXIE_UNROLL
      for (int n = 0; n < D / 8; ++n) {
        *shared_pointer<uint32_t>(Tile<D>::at(tile, row, n) + static_cast<uint32_t>(lane % 4 * 4)) =
            pack_bf16(c[m][n][half * 2], c[m][n][half * 2 + 1]);
      }
    }
  }
  sync_warp();
  constexpr int period = Tile<D>::period;
  const int row = lane / period, piece = lane % period;
  MOXIE_UNROLL
  for (int r = 0; r < M * 16; r += 32 / period) {
    if (row + r >= valid) continue;
    MOXIE_UNROLL
    for (int n = 0; n < D / 8; n += period) {
      *reinterpret_cast<Vector16*>(to + (row + r) * stride + (piece + n) * 8) =
          *shared_pointer<Vector16>(Tile<D>::at(tile, first_row + row + r, piece + n));
    }
  }
}

}  // namespace moxie::cuda
