// SPDX-License-Identifier: Apache-2.0
// The SwiGLU of expert FFNs in the finish of their matmuls, forward and backward.
#pragma once
#include "cuda/grouped_gemm_finish.cuh"

namespace moxie::cuda {

// sigmoid(x) = 1 / (1 + exp(-x))
MOXIE_DEVICE float sigmoid_fast(float x) { return reciprocal_fast(1 + exp2_fast(x * -1.44269504f)); }

// The up projection: z [rows, 2 n] = [gate, up], a [rows, n] = silu(gate) up, of z as it is stored.
struct StoreSwiGlu {
  static constexpr bool paired = true;
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
// dweight comes in parts, one for each tile (and warp) along the columns: parts [parts, rows].
struct StoreSwiGluBackward {
  static constexpr bool paired = false;
  const bf16* z;
  const float* weight;  // of each row
  bf16* dz;
  bf16* scaled;
  float* parts;
  int64_t rows;

  // Parts of a row.
  template <class Multiply> static constexpr int64_t parts_of(int64_t n) {
    constexpr int64_t cols = 8 * Multiply::cols8;
    return (n + cols - 1) / cols;
  }

  template <class Multiply> MOXIE_DEVICE void store(const GroupTile& tile, typename Multiply::Sums& sums) const {
    const int lane = lane_index(), quad = lane % 4;
    const int first_col = tile.col + Multiply::first_col();
    MOXIE_UNROLL
    for (int i = 0; i < Multiply::rows16; ++i) {
      MOXIE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = tile.row + Multiply::first_row() + 16 * i + 8 * half + lane / 4;
        const bool inside = row < tile.row_end;
        const float scale = inside ? weight[row] : 0;
        float dot = 0;
        MOXIE_UNROLL
        for (int j = 0; j < Multiply::cols8; j += 4) dot += store_blocks(tile, sums, i, j, half, row, first_col, scale);
        dot += shuffle_xor(dot, 1);
        dot += shuffle_xor(dot, 2);
        if (inside && quad == 0 && first_col < tile.col_end) {
          parts[first_col / (8 * Multiply::cols8) * rows + row] = dot;
        }
      }
    }
  }

 private:
  struct Gradient {
    float dgate, dup, a;
  };

  static MOXIE_DEVICE Gradient gradient(float da, float gate, float up, float scale) {
    const float s = sigmoid_fast(gate), silu = gate * s, scaled_da = scale * da;
    return {scaled_da * up * (s + silu * (1 - s)), scaled_da * silu, silu * up};
  }

  // Four blocks of 8 columns of a row; returns this thread's part of the row's dot.
  template <class Sums>
  MOXIE_DEVICE float store_blocks(const GroupTile& tile, Sums& sums, int i, int j, int half, int row, int first_col,
                                  float scale) const {
    const int64_t n = tile.col_end;
    const int col = first_col + 8 * (j + lane_index() % 4);
    const bool valid = row < tile.row_end && col < n;
    const int64_t at = row * 2 * n + col;
    uint32_t gate[4], up[4], product[4];
    load_words(gate, z + at, valid);
    load_words(up, z + at + n, valid);
    float dot = 0;
    MOXIE_UNROLL
    for (int b = 0; b < 4; ++b) {
      const float low_da = sums.sum[i][j + b][2 * half], high_da = sums.sum[i][j + b][2 * half + 1];
      const Gradient low = gradient(low_da, low_bf16(gate[b]), low_bf16(up[b]), scale);
      const Gradient high = gradient(high_da, high_bf16(gate[b]), high_bf16(up[b]), scale);
      dot += low_da * low.a + high_da * high.a;
      gate[b] = pack_bf16(low.dgate, high.dgate);
      up[b] = pack_bf16(low.dup, high.dup);
      product[b] = pack_bf16(scale * low.a, scale * high.a);
    }
    store_words(gate, dz + at, valid);
    store_words(up, dz + at + n, valid);
    store_words(product, scaled + row * n + col, valid);
    return dot;
  }
};

}  // namespace moxie::cuda
