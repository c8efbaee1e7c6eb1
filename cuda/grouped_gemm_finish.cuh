// SPDX-License-Identifier: Apache-2.0
// What becomes of the sums of a tile. The threads of a warp hold a matrix of bf16 words in pieces of 4 bytes; four
// threads that share a row exchange them, so that each reads and writes 16 bytes at once.
#pragma once
#include "cuda/grouped_gemm_schedule.cuh"
#include "cuda/tile.cuh"

namespace moxie::cuda {

// Of four threads with equal t / 4, thread q holds word[j]; afterwards it holds word[q] of thread j in word[j].
MOXIE_DEVICE void transpose_quad(uint32_t (&word)[4]) {
  const int lane = lane_index();
  const bool odd = (lane & 1) != 0, high = (lane & 2) != 0;
  MOXIE_UNROLL
  for (int j = 0; j < 4; j += 2) {
    const uint32_t other = shuffle_xor(odd ? word[j] : word[j + 1], 1);
    (odd ? word[j] : word[j + 1]) = other;
  }
  MOXIE_UNROLL
  for (int j = 0; j < 2; ++j) {
    const uint32_t other = shuffle_xor(high ? word[j] : word[j + 2], 2);
    (high ? word[j] : word[j + 2]) = other;
  }
}

// Reads or writes 16 bytes of a row as each thread's four words of columns 2 (t % 4) of four blocks of 8 columns: word
// j is block j's. `block` is this thread's address, of block t % 4.
MOXIE_DEVICE void load_words(uint32_t (&word)[4], const bf16* block, bool valid) {
  const Vector16 read = valid ? *reinterpret_cast<const Vector16*>(block) : Vector16{};
  MOXIE_UNROLL
  for (int j = 0; j < 4; ++j) word[j] = read.word[j];
  transpose_quad(word);
}
MOXIE_DEVICE void store_words(uint32_t (&word)[4], bf16* block, bool valid) {
  transpose_quad(word);
  if (valid) *reinterpret_cast<Vector16*>(block) = Vector16{{word[0], word[1], word[2], word[3]}};
}

// C (+)= the sums, for n in multiples of 8 and rows of C aligned to 16 bytes.
template <class Out> struct StoreSums {
  static constexpr bool paired = false, reads = false;
  Out* c;
  int64_t ldc, stride_c;  // stride_c: between the groups' C_g; 0 where C has all rows
  bool accumulate;

  template <class Multiply> MOXIE_DEVICE void store(const GroupTile& tile, typename Multiply::Sums& sums) const {
    const int lane = lane_index(), quad = lane % 4;
    const int col = tile.col + Multiply::first_col();
    Out* const matrix = c + tile.group * stride_c;
    MOXIE_UNROLL
    for (int i = 0; i < Multiply::rows16; ++i) {
      MOXIE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = tile.row + Multiply::first_row() + 16 * i + 8 * half + lane / 4;
        Out* const line = matrix + row * ldc;
        const bool inside = row < tile.row_end;
        if constexpr (sizeof(Out) == 2) {
          MOXIE_UNROLL
          for (int j = 0; j < Multiply::cols8; j += 4) {
            const int at = col + 8 * (j + quad);
            store_blocks(sums, i, j, half, line + at, inside && at < tile.col_end);
          }
        } else {
          MOXIE_UNROLL
          for (int j = 0; j < Multiply::cols8; ++j) {
            const int at = col + 8 * j + 2 * quad;
            if (inside && at < tile.col_end)
              store_pair(line + at, sums.sum[i][j][2 * half], sums.sum[i][j][2 * half + 1]);
          }
        }
      }
    }
  }

 private:
  struct alignas(8) Pair {
    float first, second;
  };

  MOXIE_DEVICE void store_pair(Out* to, float first, float second) const {
    Pair* const pair = reinterpret_cast<Pair*>(to);
    if (accumulate) {
      const Pair before = *pair;
      first += before.first;
      second += before.second;
    }
    *pair = {first, second};
  }

  template <class Sums> MOXIE_DEVICE void store_blocks(Sums& sums, int i, int j, int half, bf16* to, bool valid) const {
    uint32_t word[4] = {};
    if (accumulate) load_words(word, to, valid);
    MOXIE_UNROLL
    for (int b = 0; b < 4; ++b) {
      float low = sums.sum[i][j + b][2 * half], high = sums.sum[i][j + b][2 * half + 1];
      if (accumulate) {
        low += low_bf16(word[b]);
        high += high_bf16(word[b]);
      }
      word[b] = pack_bf16(low, high);
    }
    store_words(word, to, valid);
  }
};

}  // namespace moxie::cuda
