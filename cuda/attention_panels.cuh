// SPDX-License-Identifier: Apache-2.0
// What the attention kernels for Hopper's warpgroups share: tiles of bf16 rows as the instructions read them, D / 64
// panels [rows][64] in the layout of tile.cuh one after the other, and their products. A warpgroup owns 64 rows of a
// result, warp w of it rows 16 w and on, held as float [columns / 8][4] in the way of multiply_add().
#pragma once
#include "core/dtype.h"
#include "cuda/warpgroup_registers.cuh"

namespace moxie::cuda {

inline constexpr int attention_warpgroups = 2;
inline constexpr int attention_warpgroup_threads = attention_warpgroups * warpgroup_size;

template <int D, int Rows> struct Panels {
  static_assert(D % 64 == 0 && Rows % 64 == 0);
  static constexpr uint32_t bytes_of_panel = Rows * row_bytes;
  static constexpr uint32_t bytes = D / 64 * bytes_of_panel;

  // Where this thread begins to read rows that lie `stride` elements apart.
  static MOXIE_DEVICE const bf16* cursor(const bf16* from, int64_t stride) {
    return from + thread_index() / row_chunks * stride + thread_index() % row_chunks * chunk_size;
  }

  // Begins copying the rows at the block's cursors, of which the first `valid` exist, and zeros for the others; moves
  // the cursors to the rows after them. Every thread of the block takes part.
  static MOXIE_DEVICE void load(uint32_t tile, const bf16*& cursor, int64_t stride, int valid) {
    constexpr int rows_at_once = attention_warpgroup_threads / row_chunks;
    static_assert(rows_at_once % 8 == 0 && Rows % rows_at_once == 0);
    const int row = thread_index() / row_chunks;
    const uint32_t to = tile + swizzled(row, thread_index() % row_chunks);
    MOXIE_UNROLL
    for (int r = 0; r < Rows; r += rows_at_once) {
      MOXIE_UNROLL
      for (int panel = 0; panel < D / 64; ++panel) {
        copy_async_16(to + static_cast<uint32_t>(panel) * bytes_of_panel + static_cast<uint32_t>(r * row_bytes),
                      cursor + panel * 64, row + r < valid);
      }
      cursor += rows_at_once * stride;
    }
  }

  // The operand whose products are the columns, from row `first_row` on.
  static MOXIE_DEVICE uint64_t along_columns(uint32_t tile, int first_row, int panel) {
    return describe_operand<Along::depth>(tile + static_cast<uint32_t>(panel) * bytes_of_panel +
                                          static_cast<uint32_t>(first_row * row_bytes));
  }
  // The operand whose products are the rows.
  static MOXIE_DEVICE uint64_t along_rows(uint32_t tile) {
    constexpr uint64_t further = (bytes_of_panel - panel_bytes) >> 4;  // than describe_operand takes panels to be apart
    return describe_operand<Along::extent>(tile) + (further << 16);
  }
};

// Begins c = a b^T, c [64, Columns], with a the 64 rows of a tile from first_row on and b all rows of another.
template <int D, int RowsA, int Columns>
MOXIE_DEVICE void begin_product(float (&c)[Columns / 8][4], uint32_t a, int first_row, uint32_t b) {
  MOXIE_UNROLL
  for (int panel = 0; panel < D / 64; ++panel) {
    const uint64_t left = Panels<D, RowsA>::along_columns(a, first_row, panel);
    const uint64_t right = Panels<D, Columns>::along_columns(b, 0, panel);
    MOXIE_UNROLL
    for (uint64_t i = 0; i < 4; ++i) {
      multiply_warpgroup<Along::depth, Along::depth>(c, left + i * next_products<Along::depth>,
                                                     right + i * next_products<Along::depth>);
    }
  }
}

// Begins c += p b, c [64, D], with p [64, Rows] in registers, rounded, and b all rows of a tile.
template <int D, int Rows>
MOXIE_DEVICE void begin_sum(float (&c)[D / 8][4], const uint32_t (&p)[Rows / 16][4], uint32_t b) {
  const uint64_t right = Panels<D, Rows>::along_rows(b);
  MOXIE_UNROLL
  for (uint64_t k = 0; k < Rows / 16; ++k) {
    multiply_warpgroup_registers<Along::extent>(c, p[k], right + k * next_products<Along::extent>);
  }
}

}  // namespace moxie::cuda
