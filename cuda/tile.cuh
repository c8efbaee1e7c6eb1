// SPDX-License-Identifier: Apache-2.0
// The operands of a bf16 tile product in shared memory: their layout, and how a block's threads copy them there.
//
// A tile has 64 products per step. An operand is stored in rows of 128 bytes: along the depth (64 products of one row
// of op(A) or of one column of op(B)), or along the extent (64 rows or columns for one product; wider tiles have
// several panels of 64, one after the other). Within each group of 8 rows the chunks of 16 bytes are permuted, chunk c
// of row r at c ^ (r % 8): eight threads that read the same chunk of eight rows then meet all banks once. It is the
// layout that Hopper's matrix instructions call the 128-byte swizzle.
#pragma once
#include <cstdint>

#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

inline constexpr int tile_depth = 64;  // products per step
inline constexpr int chunk_size = 8;   // elements that are copied at once
inline constexpr int row_bytes = 128;  // of a panel
inline constexpr int row_chunks = 8;
inline constexpr int panel_bytes = tile_depth * row_bytes;

enum class Along { depth, extent };

// Where chunk `chunk` of row `row` begins.
MOXIE_DEVICE uint32_t swizzled(int row, int chunk) {
  return static_cast<uint32_t>(row * row_bytes + ((chunk ^ (row & 7)) << 4));
}

constexpr int tile_bytes(int extent) { return extent * row_bytes; }

// Copies an operand that is contiguous along the depth. Thread t copies chunk t % 8 of every (threads / 8)th row.
template <int extent, int threads> struct DepthLoader {
  static constexpr int rows_apart = threads / row_chunks, count = extent / rows_apart;
  static_assert(rows_apart % 8 == 0 && extent % rows_apart == 0);
  const bf16* row[count];  // this thread's chunk of the first step; null outside of the matrix
  int depth_left;          // from this thread's chunk on

  // row_of(i) is the address of row i of the tile, or null.
  template <class RowOf> MOXIE_DEVICE void begin(int depth, RowOf row_of) {
    const int first = thread_index() / row_chunks, chunk = thread_index() % row_chunks;
    MOXIE_UNROLL
    for (int i = 0; i < count; ++i) {
      const bf16* address = row_of(first + i * rows_apart);
      row[i] = address == nullptr ? nullptr : address + chunk * chunk_size;
    }
    depth_left = depth - chunk * chunk_size;
  }

  MOXIE_DEVICE void load(uint32_t tile, int step) const {
    const int first = thread_index() / row_chunks, chunk = thread_index() % row_chunks;
    const uint32_t to = tile + swizzled(first, chunk);
    const bool inside = step * tile_depth < depth_left;
    MOXIE_UNROLL
    for (int i = 0; i < count; ++i) {
      copy_async_16(to + static_cast<uint32_t>(i * rows_apart * row_bytes), row[i] + step * tile_depth,
                    inside && row[i] != nullptr);
    }
  }
};

// The same where the rows of a thread are equally far apart, which takes fewer registers.
template <int extent, int threads> struct StridedDepthLoader {
  static constexpr int rows_apart = threads / row_chunks, count = extent / rows_apart;
  static_assert(rows_apart % 8 == 0 && extent % rows_apart == 0);
  const bf16* first_row;  // this thread's chunk of the first step
  int64_t step_rows;      // from one row of the thread to its next
  int valid;              // rows of the thread inside the matrix
  int depth_left;         // from this thread's chunk on

  MOXIE_DEVICE void begin(int depth, const bf16* row, int64_t step, int valid_rows) {
    const int chunk = thread_index() % row_chunks;
    first_row = row + chunk * chunk_size;
    step_rows = step;
    valid = valid_rows;
    depth_left = depth - chunk * chunk_size;
  }

  MOXIE_DEVICE void load(uint32_t tile, int step) const {
    const uint32_t to = tile + swizzled(thread_index() / row_chunks, thread_index() % row_chunks);
    const bool inside = step * tile_depth < depth_left;
    const bf16* from = first_row + step * tile_depth;
    MOXIE_UNROLL
    for (int i = 0; i < count; ++i) {
      copy_async_16(to + static_cast<uint32_t>(i * rows_apart * row_bytes), from, inside && i < valid);
      from += step_rows;
    }
  }
};

// Copies an operand that is contiguous along the extent: row p of the matrix holds product p of all rows or columns.
template <int extent, int threads> struct ExtentLoader {
  static constexpr int rows_apart = threads / row_chunks, count = tile_depth / rows_apart, panels = extent / 64;
  static_assert(rows_apart % 8 == 0 && extent % 64 == 0);
  const bf16* matrix;     // this thread's chunk of row 0
  int64_t stride;         // between rows
  const int32_t* gather;  // row p is row gather[p] of the matrix; null: row p
  int rows, extent_left;  // from this thread's row of the next step, and from its chunk on
  int32_t row[count];     // this thread's rows of the next step

  MOXIE_DEVICE void begin(const bf16* first, int64_t leading, const int32_t* indices, int depth, int left) {
    const int chunk = thread_index() % row_chunks;
    matrix = first + chunk * chunk_size;
    stride = leading;
    gather = indices;
    rows = depth - thread_index() / row_chunks;
    extent_left = left - chunk * chunk_size;
    find_rows(0);
  }

  MOXIE_DEVICE void load(uint32_t tile, int step) {
    const uint32_t to = tile + swizzled(thread_index() / row_chunks, thread_index() % row_chunks);
    MOXIE_UNROLL
    for (int i = 0; i < count; ++i) {
      const bf16* from = matrix + row[i] * stride;
      const bool inside = step * tile_depth + i * rows_apart < rows;
      MOXIE_UNROLL
      for (int panel = 0; panel < panels; ++panel) {
        copy_async_16(to + static_cast<uint32_t>(panel * panel_bytes + i * rows_apart * row_bytes), from + panel * 64,
                      inside && panel * 64 < extent_left);
      }
    }
    find_rows(step + 1);  // now, so that nobody waits for the indices
  }

 private:
  MOXIE_DEVICE void find_rows(int step) {
    MOXIE_UNROLL
    for (int i = 0; i < count; ++i) {
      const int after = step * tile_depth + i * rows_apart;
      const int at = thread_index() / row_chunks + after;
      row[i] = after >= rows ? 0 : gather == nullptr ? at : gather[at];
    }
  }
};

// A [16, 16] block of op(A) for multiply_add, from row `row` and product `depth` on.
template <Along along> MOXIE_DEVICE void load_block_a(uint32_t (&block)[4], uint32_t tile, int row, int depth) {
  const int lane = lane_index();
  if constexpr (along == Along::depth) {
    load_matrices(block, tile + swizzled(row + lane % 16, depth / 8 + lane / 16));
  } else {
    const int column = row + lane / 8 % 2 * 8;
    load_matrices_transposed(block, tile + static_cast<uint32_t>(column / 64 * panel_bytes) +
                                        swizzled(depth + lane % 8 + lane / 16 * 8, column % 64 / 8));
  }
}

// Two [16, 8] blocks of op(B), from product `depth` and column `column` on: words 0, 1 and 2, 3.
template <Along along> MOXIE_DEVICE void load_blocks_b(uint32_t (&blocks)[4], uint32_t tile, int column, int depth) {
  const int lane = lane_index();
  if constexpr (along == Along::depth) {
    load_matrices(blocks, tile + swizzled(column + lane % 8 + lane / 16 * 8, depth / 8 + lane / 8 % 2));
  } else {
    const int at = column + lane / 16 * 8;
    load_matrices_transposed(
        blocks, tile + static_cast<uint32_t>(at / 64 * panel_bytes) + swizzled(depth + lane % 16, at % 64 / 8));
  }
}

// The sums of a tile as the threads of a warp hold them: sum[i][j] is the part of multiply_add()'s C at row 16 i,
// column 8 j of the warp's part of the tile.
template <int rows16, int cols8> struct TileSums {
  float sum[rows16][cols8][4];

  MOXIE_DEVICE void clear() {
    MOXIE_UNROLL
    for (int i = 0; i < rows16; ++i) {
      MOXIE_UNROLL
      for (int j = 0; j < cols8; ++j) {
        MOXIE_UNROLL
        for (int e = 0; e < 4; ++e) sum[i][j][e] = 0;
      }
    }
  }
};

// A tile product by multiply_add(): every warp owns [64, 64] of the tile. For compute capability 8.0 and later.
template <int rows_, int cols_> struct WarpMultiply {
  static constexpr int rows = rows_, cols = cols_, threads = rows / 64 * (cols / 64) * warp_size;
  static constexpr int rows16 = 4, cols8 = 8;
  static constexpr int lag = 1;               // steps after which a stage may be overwritten
  static constexpr bool copies_first = true;  // begin the next copies before the products of a step
  using Sums = TileSums<rows16, cols8>;

  MOXIE_DEVICE static int first_row() { return warp_index() % (rows / 64) * 64; }
  MOXIE_DEVICE static int first_col() { return warp_index() / (rows / 64) * 64; }
  MOXIE_DEVICE static void publish() {}
  MOXIE_DEVICE static void finish_previous(Sums&) {}
  MOXIE_DEVICE static void finish(Sums&) {}

  template <Along along_a, Along along_b> MOXIE_DEVICE static void step(Sums& sums, uint32_t a, uint32_t b) {
    MOXIE_UNROLL
    for (int depth = 0; depth < tile_depth; depth += 16) {
      uint32_t block_a[rows16][4], blocks_b[cols8 / 2][4];
      MOXIE_UNROLL
      for (int i = 0; i < rows16; ++i) load_block_a<along_a>(block_a[i], a, first_row() + 16 * i, depth);
      MOXIE_UNROLL
      for (int j = 0; j < cols8 / 2; ++j) load_blocks_b<along_b>(blocks_b[j], b, first_col() + 16 * j, depth);
      MOXIE_UNROLL
      for (int i = 0; i < rows16; ++i) {
        MOXIE_UNROLL
        for (int j = 0; j < cols8; ++j) {
          multiply_add(sums.sum[i][j], block_a[i], blocks_b[j / 2][j % 2 * 2], blocks_b[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
};

}  // namespace moxie::cuda
