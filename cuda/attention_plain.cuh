// SPDX-License-Identifier: Apache-2.0
// Attention for every dtype, head_dim, mask and soft cap, without tensor cores: tiles of 64 x 64 scores, a block of 256
// threads, each with 4 x 4 of them. A block computes up to 128 columns of its result; a larger head_dim takes several
// blocks, which each make the scores anew. Nothing that a query does not see reaches it, not even a NaN.
// The formulas are those of attention_forward.cuh and attention_backward.cuh, with e in the place of 2.
#pragma once
#include <limits>

#include "core/attention.h"
#include "core/math.h"
#include "cuda/attention_statistics.cuh"
#include "cuda/attention_visibility.cuh"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

inline constexpr int plain_tile = 64;
inline constexpr int plain_threads = 256;
inline constexpr int plain_chunk = 32;  // of head_dim, where scores are made

// One head of q, k, v, dout or a gradient: `length` rows of head_dim elements.
template <class T> struct HeadRows {
  T* first;
  int64_t stride;
  int length;
};

// What the blocks of one head share.
template <class T> struct PlainHead {
  using C = Accumulator<T>;
  HeadRows<const T> q, k, v;
  Visibility visibility;
  const uint8_t* mask;  // of this head; may be null
  int64_t mask_stride;
  int head_dim;
  C scale, softcap;

  MOXIE_DEVICE PlainHead(const Attention& p, int64_t b, int64_t h)
      : visibility(Visibility::of(p)),
        mask(p.mask == nullptr ? nullptr : p.mask + b * p.mask_batch_stride + h * p.mask_head_stride),
        mask_stride(p.mask_stride),
        head_dim(static_cast<int>(p.head_dim)),
        scale(static_cast<C>(p.scale)),
        softcap(static_cast<C>(p.softcap)) {
    const int64_t kv_at = h / (p.heads / p.kv_heads) * p.head_dim;
    q = {static_cast<const T*>(p.q) + b * p.q_batch_stride + h * p.head_dim, p.q_stride, visibility.q_length};
    k = {static_cast<const T*>(p.k) + b * p.k_batch_stride + kv_at, p.k_stride, visibility.k_length};
    v = {static_cast<const T*>(p.v) + b * p.v_batch_stride + kv_at, p.v_stride, visibility.k_length};
  }

  MOXIE_DEVICE bool sees(int query, int key) const {
    return visibility.sees(query, key) && (mask == nullptr || mask[query * mask_stride + key] != 0);
  }
  MOXIE_DEVICE bool all_see(int first_query, int first_key) const {
    return mask == nullptr && visibility.all_see(first_query, plain_tile, first_key, plain_tile);
  }
  // The score of a product q . k.
  MOXIE_DEVICE C score(C product) const {
    const C scaled = product * scale;
    return softcap == 0 ? scaled : softcap * math::tanh(scaled / softcap);
  }
  // The derivative of score() by the scaled product, from the score.
  MOXIE_DEVICE C slope(C score) const { return softcap == 0 ? C(1) : 1 - score / softcap * (score / softcap); }
};

// A tile's 16 numbers of each thread: rows thread / 16 + 16 i, columns thread % 16 + 16 j.
template <class C> struct PlainTile {
  C value[4][4];
  static MOXIE_DEVICE int row(int i) { return thread_index() / 16 + 16 * i; }
  static MOXIE_DEVICE int column(int j) { return thread_index() % 16 + 16 * j; }
  template <class F> static MOXIE_DEVICE void each(F f) {
    MOXIE_UNROLL
    for (int i = 0; i < 4; ++i) {
      MOXIE_UNROLL
      for (int j = 0; j < 4; ++j) f(i, j);
    }
  }
};

// The block's shared memory: chunks of two operands, or one wide chunk of values; and a tile of weights.
template <class C> struct PlainMemory {
  static constexpr int chunk_row = plain_chunk + 1,
                       wide_row = plain_tile + 1;  // odd, so that columns lie in different banks
  static constexpr uint32_t bytes =
      (2 * plain_tile * chunk_row + plain_tile * wide_row) * static_cast<uint32_t>(sizeof(C));
  C* left;
  C* right;
  C* values;  // in the place of left and right
  C* weights;
  explicit MOXIE_DEVICE PlainMemory(void* memory)
      : left(static_cast<C*>(memory)),
        right(left + plain_tile * chunk_row),
        values(left),
        weights(right + plain_tile * chunk_row) {}
};

// Copies `Columns` columns of 64 rows, zeros where there are none.
template <int Columns, class T, class C>
MOXIE_DEVICE void load_plain(C* to, const HeadRows<const T>& rows, int first_row, int first_column, int head_dim) {
  for (int at = thread_index(); at < plain_tile * Columns; at += plain_threads) {
    const int r = at / Columns, c = at % Columns;
    const bool exists = first_row + r < rows.length && first_column + c < head_dim;
    to[r * (Columns + 1) + c] =
        exists ? static_cast<C>(rows.first[(first_row + r) * rows.stride + first_column + c]) : C(0);
  }
}

// tile = a b^T for 64 rows of each. Ends with all threads in step.
template <class T, class C>
MOXIE_DEVICE void multiply_plain(PlainTile<C>& tile, const PlainMemory<C>& memory, const HeadRows<const T>& a,
                                 int first_a, const HeadRows<const T>& b, int first_b, int head_dim) {
  using Tile = PlainTile<C>;
  constexpr int row = PlainMemory<C>::chunk_row;
  Tile::each([&](int i, int j) { tile.value[i][j] = 0; });
  for (int first = 0; first < head_dim; first += plain_chunk) {
    load_plain<plain_chunk>(memory.left, a, first_a, first, head_dim);
    load_plain<plain_chunk>(memory.right, b, first_b, first, head_dim);
    sync_threads();
    MOXIE_UNROLL_BY_4
    for (int k = 0; k < plain_chunk; ++k) {
      C left[4], right[4];
      MOXIE_UNROLL
      for (int i = 0; i < 4; ++i) {
        left[i] = memory.left[Tile::row(i) * row + k];
        right[i] = memory.right[Tile::column(i) * row + k];
      }
      Tile::each([&](int i, int j) { tile.value[i][j] += left[i] * right[j]; });
    }
    sync_threads();
  }
}

// out += weights b, for the columns from first_column on; `used(i, c)` says whether the weight of row i and row first_b
// + c of b counts at all. Column j of a thread's out is first_column + thread % 16 + 16 j. Begins and ends with all in
// step.
template <bool Guarded, int Chunks, class T, class C, class Used>
MOXIE_DEVICE void accumulate_plain(C (&out)[4][4 * Chunks], const PlainMemory<C>& memory, const HeadRows<const T>& b,
                                   int first_b, int first_column, int head_dim, const Used& used) {
  using Tile = PlainTile<C>;
  constexpr int row = PlainMemory<C>::wide_row;
  MOXIE_UNROLL
  for (int chunk = 0; chunk < Chunks; ++chunk) {
    load_plain<plain_tile>(memory.values, b, first_b, first_column + chunk * plain_tile, head_dim);
    sync_threads();
    MOXIE_UNROLL_BY_4
    for (int c = 0; c < plain_tile; ++c) {
      C values[4];
      MOXIE_UNROLL
      for (int j = 0; j < 4; ++j) values[j] = memory.values[c * row + Tile::column(j)];
      MOXIE_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (Guarded && !used(Tile::row(i), c)) continue;
        const C weight = memory.weights[Tile::row(i) * row + c];
        MOXIE_UNROLL
        for (int j = 0; j < 4; ++j) out[i][4 * chunk + j] += weight * values[j];
      }
    }
    sync_threads();
  }
}

// Puts a tile into memory.weights, where accumulate_plain() finds it, then calls that in the form that is needed.
template <int Chunks, class T, class C, class Used>
MOXIE_DEVICE void weigh_plain(C (&out)[4][4 * Chunks], const PlainTile<C>& tile, const PlainMemory<C>& memory,
                              const HeadRows<const T>& b, int first_b, int first_column, int head_dim, bool all_used,
                              const Used& used) {
  using Tile = PlainTile<C>;
  Tile::each([&](int i, int j) {
    memory.weights[Tile::row(i) * PlainMemory<C>::wide_row + Tile::column(j)] = tile.value[i][j];
  });
  all_used ? accumulate_plain<false, Chunks>(out, memory, b, first_b, first_column, head_dim, used)
           : accumulate_plain<true, Chunks>(out, memory, b, first_b, first_column, head_dim, used);
}

// Writes the rows that exist, each multiplied by its factor.
template <int Chunks, class T, class C, class Factor>
MOXIE_DEVICE void store_plain(const C (&out)[4][4 * Chunks], const HeadRows<T>& to, int first_row, int first_column,
                              int head_dim, const Factor& factor) {
  using Tile = PlainTile<C>;
  MOXIE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + Tile::row(i);
    if (row >= to.length) continue;
    MOXIE_UNROLL
    for (int j = 0; j < 4 * Chunks; ++j) {
      const int column = first_column + Tile::column(j);
      if (column < head_dim) to.first[row * to.stride + column] = static_cast<T>(out[i][j] * factor(i));
    }
  }
}

// Which rows, columns and head a block works on.
struct PlainPlace {
  int first_row, first_column;
  int64_t b, h;
};

inline constexpr int64_t plain_row_blocks(int64_t rows) { return (rows + plain_tile - 1) / plain_tile; }
// How many blocks there are for `rows` rows of each of `heads` heads.
template <int Chunks> int64_t plain_blocks(int64_t rows, int64_t batch, int64_t heads, int64_t head_dim) {
  return plain_row_blocks(rows) * batch * heads * ((head_dim + Chunks * plain_tile - 1) / (Chunks * plain_tile));
}
template <int Chunks> MOXIE_DEVICE PlainPlace plain_place(int64_t block, int64_t rows, int64_t batch, int64_t heads) {
  const int64_t row_blocks = plain_row_blocks(rows), head = block / row_blocks % (batch * heads);
  return {static_cast<int>(block % row_blocks) * plain_tile,
          static_cast<int>(block / (row_blocks * batch * heads)) * Chunks * plain_tile, head / heads, head % heads};
}

}  // namespace moxie::cuda
