// SPDX-License-Identifier: Apache-2.0
// Attention forward in bf16 on tensor cores (Dao, "FlashAttention-2", 2023). A block of four warps holds Rows queries
// of one head and walks over their keys, Columns at a time; a warp owns Rows / 4 queries from the scores to the result,
// so that the softmax needs four neighbouring lanes only. While one block of keys and values is worked on, the next is
// on its way into the other half of shared memory.
//   s = q k^T,  m' = max(m, s),  p = 2^(c (s - m')),  l = l 2^(c (m - m')) + sum p,  o = o 2^(c (m - m')) + p v
//   at the end: out = o / l,  lse = ln 2 (c m + log2 l);  c = scale * log2 e
#pragma once
#include "core/math.h"
#include "cuda/attention_tiles.cuh"
#include "cuda/attention_visibility.cuh"

namespace moxie::cuda {

struct ForwardProblem {
  const bf16 *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  int64_t q_batch_stride, k_batch_stride, v_batch_stride;
  bf16* out;
  int64_t out_stride, out_batch_stride;
  float* lse;
  int heads, group;  // query heads, and how many of them share a key/value head
  int head_count;    // batch * heads
  float scale_log2;  // > 0
  Visibility visibility;
};

inline ForwardProblem forward_problem(const Attention& p) {
  return {static_cast<const bf16*>(p.q),
          static_cast<const bf16*>(p.k),
          static_cast<const bf16*>(p.v),
          p.q_stride,
          p.k_stride,
          p.v_stride,
          p.q_batch_stride,
          p.k_batch_stride,
          p.v_batch_stride,
          static_cast<bf16*>(p.out),
          p.out_stride,
          p.out_batch_stride,
          static_cast<float*>(p.lse),
          static_cast<int>(p.heads),
          static_cast<int>(p.heads / p.kv_heads),
          static_cast<int>(p.batch * p.heads),
          static_cast<float>(p.scale * log2_e),
          Visibility::of(p)};
}

// Queries per block (rows) and keys per step (columns).
template <int D> struct ForwardShape;
template <> struct ForwardShape<32> { static constexpr int rows = 128, columns = 64; };
template <> struct ForwardShape<64> { static constexpr int rows = 128, columns = 64; };
template <> struct ForwardShape<96> { static constexpr int rows = 128, columns = 64; };
template <> struct ForwardShape<128> { static constexpr int rows = 128, columns = 64; };

// The state of the softmax of a warp's queries; each lane has two rows of each 16.
template <int M> struct Softmax {
  float top[M][2];  // the largest score so far
  float sum[M][2];  // of 2^(c (score - top)), over this lane's columns

  MOXIE_DEVICE void begin() {
    MOXIE_UNROLL
    for (int m = 0; m < M; ++m) {
      top[m][0] = top[m][1] = -INFINITY;
      sum[m][0] = sum[m][1] = 0;
    }
  }

  // Turns the scores of one of the lane's rows into 2^(c (score - top)); returns what the results that were summed with
  // the old top must be multiplied by.
  template <int N> MOXIE_DEVICE float weigh(float (&scores)[M][N][4], int m, int half, float scale_log2) {
    float largest = top[m][half];
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) {
      largest = fmaxf(largest, fmaxf(scores[m][n][half * 2], scores[m][n][half * 2 + 1]));
    }
    largest = fmaxf(largest, shuffle_xor(largest, 1));
    largest = fmaxf(largest, shuffle_xor(largest, 2));
    // Where nothing is visible yet, the top is -inf, and -inf - -inf would be NaN.
    const float base = largest == -INFINITY ? 0.0f : largest * scale_log2;
    const float shrink = exp2_approximate(top[m][half] * scale_log2 - base);
    top[m][half] = largest;
    float total = sum[m][half] * shrink;
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) {
      MOXIE_UNROLL
      for (int i = half * 2; i < half * 2 + 2; ++i) {
        scores[m][n][i] = exp2_approximate(scores[m][n][i] * scale_log2 - base);
        total += scores[m][n][i];
      }
    }
    sum[m][half] = total;
    return shrink;
  }

  // Divides the results by the sums, and writes the log-sum-exp of the `valid` rows that exist, of which the lane's
  // first is `row`.
  template <int O>
  MOXIE_DEVICE void finish(float (&out)[M][O][4], float* lse, int row, int valid, float scale_log2) const {
    constexpr float ln_2 = 0.693147181f;
    MOXIE_UNROLL
    for (int m = 0; m < M; ++m) {
      MOXIE_UNROLL
      for (int half = 0; half < 2; ++half) {
        float total = sum[m][half];
        total += shuffle_xor(total, 1);
        total += shuffle_xor(total, 2);
        rescale(out, m, half, total == 0 ? 0.0f : 1 / total);
        const int at = row + m * 16 + half * 8;
        if (lane_index() % 4 == 0 && at < valid) {
          lse[at] = total == 0 ? -INFINITY : (top[m][half] * scale_log2 + log2f(total)) * ln_2;
        }
      }
    }
  }

  template <int O> static MOXIE_DEVICE void rescale(float (&out)[M][O][4], int m, int half, float factor) {
    if (factor == 1) return;  // most often, after the first blocks
    MOXIE_UNROLL
    for (int o = 0; o < O; ++o) {
      out[m][o][half * 2] *= factor;
      out[m][o][half * 2 + 1] *= factor;
    }
  }
};

template <int D> constexpr uint32_t forward_shared_bytes() {
  return Tile<D>::bytes(ForwardShape<D>::rows + 4 * ForwardShape<D>::columns);
}

// How many blocks there are: the queries of a head in ForwardShape::rows, head by head.
template <int D> int64_t forward_blocks(const ForwardProblem& p) {
  return int64_t{p.head_count} * ((p.visibility.q_length + ForwardShape<D>::rows - 1) / ForwardShape<D>::rows);
}

// The work of block `block`; `shared` has forward_shared_bytes<D>().
template <int D> MOXIE_DEVICE void attention_forward(const ForwardProblem& p, int block, uint32_t shared) {
  constexpr int rows = ForwardShape<D>::rows, columns = ForwardShape<D>::columns;
  constexpr int M = rows / attention_warps / 16, N = columns / 8;
  const Visibility& visibility = p.visibility;
  // The last queries first: with `causal` they have most keys.
  const int blocks = (visibility.q_length + rows - 1) / rows;
  const int first_query = (blocks - 1 - block / p.head_count) * rows, head = block % p.head_count;
  const int b = head / p.heads, h = head % p.heads;
  const int queries = math::min(rows, visibility.q_length - first_query);
  const uint32_t q_tile = shared, kv_tiles = q_tile + Tile<D>::bytes(rows);
  // Two pairs [k, v], the second after the first; the sum of their addresses less the one is the other.
  const uint32_t both_kv_tiles = 2 * kv_tiles + 2 * Tile<D>::bytes(columns);

  const int end = visibility.end_key(first_query + queries - 1);
  int key = visibility.first_key(first_query) / columns * columns;
  const int64_t kv_at = h / p.group * D;
  const bf16* q = Tile<D>::cursor(p.q + b * p.q_batch_stride + first_query * p.q_stride + h * D, p.q_stride);
  const bf16* k = Tile<D>::cursor(p.k + b * p.k_batch_stride + key * p.k_stride + kv_at, p.k_stride);
  const bf16* v = Tile<D>::cursor(p.v + b * p.v_batch_stride + key * p.v_stride + kv_at, p.v_stride);
  const auto load_keys = [&](int keys, uint32_t to) {
    Tile<D>::template load<columns>(to, k, p.k_stride, keys);
    Tile<D>::template load<columns>(to + Tile<D>::bytes(columns), v, p.v_stride, keys);
  };
  Tile<D>::template load<rows>(q_tile, q, p.q_stride, queries);
  if (key < end) load_keys(visibility.k_length - key, kv_tiles);
  copy_async_commit();

  const int lane = lane_index(), warp_row = warp_index() * M * 16;
  float out[M][D / 8][4];
  clear(out);
  Softmax<M> softmax;
  softmax.begin();
  for (uint32_t k_tile = kv_tiles; key < end; key += columns, k_tile = both_kv_tiles - k_tile) {
    copy_async_wait<0>();
    sync_threads();
    if (key + columns < end) load_keys(visibility.k_length - key - columns, both_kv_tiles - k_tile);
    copy_async_commit();
    float scores[M][N][4];
    multiply_rows<D>(scores, q_tile, warp_row, k_tile);
    if (!visibility.all_see(first_query, rows, key, columns)) {
      hide(scores, visibility, first_query + warp_row + lane / 4, key + lane % 4 * 2);
    }
    MOXIE_UNROLL
    for (int m = 0; m < M; ++m) {
      MOXIE_UNROLL
      for (int half = 0; half < 2; ++half) {
        softmax.rescale(out, m, half, softmax.weigh(scores, m, half, p.scale_log2));
      }
    }
    uint32_t weights[M][N / 2][4];
    round_rows(weights, scores);
    accumulate_rows<D, M, columns>(out, weights, k_tile + Tile<D>::bytes(columns));
  }
  copy_async_wait<0>();
  sync_threads();
  softmax.finish(out, p.lse + static_cast<int64_t>(head) * visibility.q_length + first_query, warp_row + lane / 4,
                 queries, p.scale_log2);
  store_rows<D, M>(out, q_tile, warp_row,
                   p.out + b * p.out_batch_stride + first_query * p.out_stride + h * D + warp_row * p.out_stride,
                   p.out_stride, queries - warp_row);
}

}  // namespace moxie::cuda
