// SPDX-License-Identifier: Apache-2.0
// The SwiGLU of expert FFNs in the finish of their matmuls, forward and backward.
#pragma once
#include "cuda/grouped_gemm_finish.cuh"

namespace moxie::cuda {

// sigmoid(x) = 1 / (1 + exp(-x))
MOXIE_DEVICE float sigmoid_fast(float x) { return reciprocal_fast(1 + exp2_fast(x * -1.44269504f)); }

// The up projection: z [rows, 2 n] = [gate, up], a [rows, n] = silu(gate) up, of z as it is stored.
struct StoreSwiGlu {
  static constexpr bool paired = true, reads = false;
  bf16* z;
  bf16* a;

  template <class Multiply> MOXIE_DEVICE void store(const GroupTile& tile, typename Multiply::Sums& sums) const {
    const int lane = lane_index(), quad = lane % 4;
    const int64_t n = tile.col_end;
    MOXIE_UNROLL
    for (int i = 0; i < Multiply::rows16; ++i) {
      MOXIE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = tile.row + Multiply::first_row() + 16 * i + 8 * half + lane / 4;
        MOXIE_UNROLL
        for (int j = 0; j < Multiply::cols8; j += 8) {
          const int col = tile.col + Multiply::first_col() / 2 + 8 * (j / 2 + quad);
          const bool valid = row < tile.row_end && col < n;
          uint32_t gate[4], up[4], product[4];
          MOXIE_UNROLL
          for (int b = 0; b < 4; ++b) {
            const float(&g)[4] = sums.sum[i][j + 2 * b], (&u)[4] = sums.sum[i][j + 2 * b + 1];
            gate[b] = pack_bf16(g[2 * half], g[2 * half + 1]);
            up[b] = pack_bf16(u[2 * half], u[2 * half + 1]);
            product[b] = pack_bf16(low_bf16(gate[b]) * sigmoid_fast(low_bf16(gate[b])) * low_bf16(up[b]),
                                   high_bf16(gate[b]) * sigmoid_fast(high_bf16(gate[b])) * high_bf16(up[b]));
          }
          bf16* const line = z + row * 2 * n + col;
          store_words(gate, line, valid);
          store_words(up, line + n, valid);
          store_words(product, a + row * n + col, valid);
        }
      }
    }
  }
};

// The gradient of the down projection's input. With the sums da' = dy W_down, z = [gate, up], a = silu(gate) up and the
// row's weight s in the output:
//   dz [rows, 2 n] = s da' [up silu'(gate), silu(gate)], scaled [rows, n] = s a, dweight = sum over columns of da' a
// dweight comes in parts [parts, rows], one for each warp's columns.
struct StoreSwiGluBackward {
  static constexpr bool paired = false, reads = true;
  const bf16* z;
  const float* weight;  // of each row
  bf16* dz;
  bf16* scaled;
  float* parts;
  int64_t rows;

  template <class Multiply> MOXIE_DEVICE void store(const GroupTile& tile, typename Multiply::Sums& sums) const {
    constexpr int across = Multiply::cols8 / 4, count = Multiply::rows16 * 2 * across;
    constexpr int ahead = Multiply::cols8 > 16 ? 1 : 2;  // reads that are under way: what registers allow
    const int first_col = tile.col + Multiply::first_col();
    Place place{tile, tile.row + Multiply::first_row() + lane_index() / 4, first_col + 8 * (lane_index() % 4)};
    Read under_way[ahead];
    MOXIE_UNROLL
    for (int i = 0; i < ahead; ++i) under_way[i] = read(place, i / across, i % across);
    float dot = 0;
    MOXIE_UNROLL
    for (int i = 0; i < count; ++i) {
      const Read now = under_way[i % ahead];
      if (i + ahead < count) under_way[i % ahead] = read(place, (i + ahead) / across, (i + ahead) % across);
      dot += store_blocks(place, sums, i / across, i % across, now);
      if (i % across == across - 1) {
        dot += shuffle_xor(dot, 1);
        dot += shuffle_xor(dot, 2);
        const int row = place.row + 8 * (i / across);
        if (row < tile.row_end && lane_index() % 4 == 0 && first_col < tile.col_end) {
          parts[first_col / (8 * Multiply::cols8) * rows + row] = dot;
        }
        dot = 0;
      }
    }
  }

 private:
  struct Gradient {
    float dgate, dup, a;
  };
  struct Read {
    Vector16 gate, up;
    float scale;
  };
  // This thread's first row and column.
  struct Place {
    const GroupTile& tile;
    int row, col;
    MOXIE_DEVICE bool inside(int half, int block) const {
      return row + 8 * half < tile.row_end && col + 32 * block < tile.col_end;
    }
    MOXIE_DEVICE int64_t at(int half, int block, int64_t stride) const {
      return (row + 8 * half) * stride + col + 32 * block;
    }
  };

  static MOXIE_DEVICE Gradient gradient(float da, float gate, float up, float scale) {
    const float s = sigmoid_fast(gate), silu = gate * s, scaled_da = scale * da;
    return {scaled_da * up * (s + silu * (1 - s)), scaled_da * silu, silu * up};
  }

  // What store_blocks() needs of row 8 half of the thread, four blocks of 8 columns from 32 block on.
  MOXIE_DEVICE Read read(const Place& place, int half, int block) const {
    Read result{};
    // The weight for every thread of the row: it is needed after the exchange, by those whose own block is outside too.
    if (place.row + 8 * half < place.tile.row_end) result.scale = load_float(weight + place.row + 8 * half);
    if (place.inside(half, block)) {
      const bf16* const from = z + place.at(half, block, 2 * place.tile.col_end);
      result.gate = load_16(from);
      result.up = load_16(from + place.tile.col_end);
    }
    return result;
  }

  // Returns this thread's part of the row's dot.
  template <class Sums>
  MOXIE_DEVICE float store_blocks(const Place& place, const Sums& sums, int half, int block, const Read& read) const {
    uint32_t gate[4], up[4], product[4];
    MOXIE_UNROLL
    for (int b = 0; b < 4; ++b) {
      gate[b] = read.gate.word[b];
      up[b] = read.up.word[b];
    }
    transpose_quad(gate);
    transpose_quad(up);
    float dot = 0;
    MOXIE_UNROLL
    for (int b = 0; b < 4; ++b) {
      const float(&sum)[4] = sums.sum[half / 2][4 * block + b];
      const float low_da = sum[half % 2 * 2], high_da = sum[half % 2 * 2 + 1];
      const Gradient low = gradient(low_da, low_bf16(gate[b]), low_bf16(up[b]), read.scale);
      const Gradient high = gradient(high_da, high_bf16(gate[b]), high_bf16(up[b]), read.scale);
      dot += low_da * low.a + high_da * high.a;
      gate[b] = pack_bf16(low.dgate, high.dgate);
      up[b] = pack_bf16(low.dup, high.dup);
      product[b] = pack_bf16(read.scale * low.a, read.scale * high.a);
    }
    const int64_t n = place.tile.col_end;
    const bool valid = place.inside(half, block);
    bf16* const to = dz + place.at(half, block, 2 * n);
    store_words(gate, to, valid);
    store_words(up, to + n, valid);
    store_words(product, scaled + place.at(half, block, n), valid);
    return dot;
  }
};

}  // namespace moxie::cuda
