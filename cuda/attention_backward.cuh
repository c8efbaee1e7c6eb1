// SPDX-License-Identifier: Apache-2.0
// Attention backward in bf16 on tensor cores, without atomics: one kernel walks over the keys of each block of queries
// and sums dq, another walks over the queries of each block of keys and sums dk and dv. Both make the weights anew from
// q, k and the saved log-sum-exp.
//   p = 2^(c s - lse2),  dp = dout v^T,  ds = p (dp - delta),  delta = sum of dout out
//   dq = scale ds k,  dk = scale ds^T q,  dv = p^T dout;  c = scale * log2 e, lse2 = lse * log2 e
#pragma once
#include "core/math.h"
#include "cuda/attention_statistics.cuh"
#include "cuda/attention_tiles.cuh"
#include "cuda/attention_visibility.cuh"

namespace moxie::cuda {

struct BackwardProblem {
  const bf16 *q, *k, *v, *dout;
  int64_t q_stride, k_stride, v_stride, dout_stride;
  int64_t q_batch_stride, k_batch_stride, v_batch_stride, dout_batch_stride;
  bf16 *dq, *dk, *dv;                      // with the strides of q, k and v
  const RowStatistics<float>* statistics;  // [batch * heads, statistics_rows]: log-sum-exp to base 2, and delta
  int64_t statistics_rows;                 // q_length rounded up to whole blocks of queries
  int heads, group;                        // query heads, and how many of them share a key/value head
  int batch;
  float scale, scale_log2;  // > 0
  Visibility visibility;
};

// The statistics of a head have so many rows that whole steps of queries can be read.
inline int64_t statistics_rows(int64_t q_length) { return (q_length + 127) / 128 * 128; }

// `statistics` has [batch, heads, statistics_rows(q_length)], filled with lse_factor = log2_e.
inline BackwardProblem backward_problem(const AttentionBackward& p, const void* statistics) {
  const Attention& f = p.forward;
  return {static_cast<const bf16*>(f.q),
          static_cast<const bf16*>(f.k),
          static_cast<const bf16*>(f.v),
          static_cast<const bf16*>(p.dout),
          f.q_stride,
          f.k_stride,
          f.v_stride,
          p.dout_stride,
          f.q_batch_stride,
          f.k_batch_stride,
          f.v_batch_stride,
          p.dout_batch_stride,
          static_cast<bf16*>(p.dq),
          static_cast<bf16*>(p.dk),
          static_cast<bf16*>(p.dv),
          static_cast<const RowStatistics<float>*>(statistics),
          statistics_rows(f.q_length),
          static_cast<int>(f.heads),
          static_cast<int>(f.heads / f.kv_heads),
          static_cast<int>(f.batch),
          static_cast<float>(f.scale),
          static_cast<float>(f.scale * log2_e),
          Visibility::of(f)};
}

// For dq: queries per block (rows) and keys per step (columns). For dk and dv: keys per block and queries per step.
template <int D> struct QueryGradientShape;
template <> struct QueryGradientShape<32> { static constexpr int rows = 128, columns = 64; };
template <> struct QueryGradientShape<64> { static constexpr int rows = 128, columns = 64; };
template <> struct QueryGradientShape<96> { static constexpr int rows = 128, columns = 32; };
template <> struct QueryGradientShape<128> { static constexpr int rows = 128, columns = 32; };
template <int D> struct KeyGradientShape;
template <> struct KeyGradientShape<32> { static constexpr int rows = 128, columns = 64; };
template <> struct KeyGradientShape<64> { static constexpr int rows = 128, columns = 32; };
template <> struct KeyGradientShape<96> { static constexpr int rows = 64, columns = 64; };
template <> struct KeyGradientShape<128> { static constexpr int rows = 64, columns = 64; };

template <int D> constexpr uint32_t query_gradient_shared_bytes() {
  return Tile<D>::bytes(2 * QueryGradientShape<D>::rows + 4 * QueryGradientShape<D>::columns);
}
template <int D> int64_t query_gradient_blocks(const BackwardProblem& p) {
  constexpr int rows = QueryGradientShape<D>::rows;
  return int64_t{p.batch} * p.heads * ((p.visibility.q_length + rows - 1) / rows);
}

// dq of one block of queries; `shared` has query_gradient_shared_bytes<D>().
template <int D> MOXIE_DEVICE void attention_query_gradient(const BackwardProblem& p, int block, uint32_t shared) {
  constexpr int rows = QueryGradientShape<D>::rows, columns = QueryGradientShape<D>::columns;
  constexpr int M = rows / attention_warps / 16, N = columns / 8;
  const Visibility& visibility = p.visibility;
  // The last queries first: with `causal` they have most keys.
  const int head_count = p.batch * p.heads, blocks = (visibility.q_length + rows - 1) / rows;
  const int first_query = (blocks - 1 - block / head_count) * rows, head = block % head_count;
  const int b = head / p.heads, h = head % p.heads;
  const int queries = math::min(rows, visibility.q_length - first_query);
  const uint32_t q_tile = shared, dout_tile = q_tile + Tile<D>::bytes(rows);
  // Two pairs [k, v], the second after the first; the sum of their addresses less the one is the other.
  const uint32_t kv_tiles = dout_tile + Tile<D>::bytes(rows);
  const uint32_t both_kv_tiles = 2 * kv_tiles + 2 * Tile<D>::bytes(columns);

  const int end = visibility.end_key(first_query + queries - 1);
  int key = visibility.first_key(first_query) / columns * columns;
  const int64_t kv_at = h / p.group * D;
  const bf16* q = Tile<D>::cursor(p.q + b * p.q_batch_stride + first_query * p.q_stride + h * D, p.q_stride);
  const bf16* dout =
      Tile<D>::cursor(p.dout + b * p.dout_batch_stride + first_query * p.dout_stride + h * D, p.dout_stride);
  const bf16* k = Tile<D>::cursor(p.k + b * p.k_batch_stride + key * p.k_stride + kv_at, p.k_stride);
  const bf16* v = Tile<D>::cursor(p.v + b * p.v_batch_stride + key * p.v_stride + kv_at, p.v_stride);
  const auto load_keys = [&](int keys, uint32_t to) {
    Tile<D>::template load<columns>(to, k, p.k_stride, keys);
    Tile<D>::template load<columns>(to + Tile<D>::bytes(columns), v, p.v_stride, keys);
  };
  Tile<D>::template load<rows>(q_tile, q, p.q_stride, queries);
  Tile<D>::template load<rows>(dout_tile, dout, p.dout_stride, queries);
  if (key < end) load_keys(visibility.k_length - key, kv_tiles);
  copy_async_commit();

  const int lane = lane_index(), warp_row = warp_index() * M * 16;
  const int row = first_query + warp_row + lane / 4;  // the lane's first
  RowStatistics<float> statistics[M][2];
  MOXIE_UNROLL
  for (int m = 0; m < M; ++m) {
    statistics[m][0] = p.statistics[head * p.statistics_rows + row + m * 16];
    statistics[m][1] = p.statistics[head * p.statistics_rows + row + m * 16 + 8];
  }
  float dq[M][D / 8][4];
  clear(dq);
  for (uint32_t k_tile = kv_tiles; key < end; key += columns, k_tile = both_kv_tiles - k_tile) {
    copy_async_wait<0>();
    sync_threads();
    if (key + columns < end) load_keys(visibility.k_length - key - columns, both_kv_tiles - k_tile);
    copy_async_commit();
    float scores[M][N][4], dp[M][N][4];
    multiply_rows<D>(dp, dout_tile, warp_row, k_tile + Tile<D>::bytes(columns));
    multiply_rows<D>(scores, q_tile, warp_row, k_tile);
    if (!visibility.all_see(first_query, rows, key, columns)) hide(scores, visibility, row, key + lane % 4 * 2);
    uint32_t ds[M][N / 2][4];
    MOXIE_UNROLL
    for (int m = 0; m < M; ++m) {
      MOXIE_UNROLL
      for (int n = 0; n < N; ++n) {
        MOXIE_UNROLL
        for (int i = 0; i < 4; ++i) {
          const RowStatistics<float>& of_row = statistics[m][i / 2];
          const float weight = exp2_approximate(scores[m][n][i] * p.scale_log2 - of_row.lse);
          dp[m][n][i] = weight * (dp[m][n][i] - of_row.delta);
        }
      }
    }
    round_rows(ds, dp);
    accumulate_rows<D, M, columns>(dq, ds, k_tile);
  }
  copy_async_wait<0>();
  sync_threads();
  scale_rows(dq, p.scale);
  bf16* to = p.dq + b * p.q_batch_stride + (first_query + warp_row) * p.q_stride + h * D;
  store_rows<D, M>(dq, q_tile, warp_row, to, p.q_stride, queries - warp_row);
}

template <int D> constexpr uint32_t key_gradient_shared_bytes() {
  return Tile<D>::bytes(2 * KeyGradientShape<D>::rows + 4 * KeyGradientShape<D>::columns) +
         2 * KeyGradientShape<D>::columns * static_cast<uint32_t>(sizeof(RowStatistics<float>));
}
template <int D> int64_t key_gradient_blocks(const BackwardProblem& p) {
  constexpr int rows = KeyGradientShape<D>::rows;
  return int64_t{p.batch} * (p.heads / p.group) * ((p.visibility.k_length + rows - 1) / rows);
}

// dk and dv of one block of keys, over all query heads that share them; `shared` has key_gradient_shared_bytes<D>().
// Scores and weights are transposed here, keys along the rows, so that both products take them from registers.
template <int D> MOXIE_DEVICE void attention_key_gradient(const BackwardProblem& p, int block, uint32_t shared) {
  constexpr int rows = KeyGradientShape<D>::rows, columns = KeyGradientShape<D>::columns;
  constexpr int M = rows / attention_warps / 16, N = columns / 8;
  constexpr uint32_t step_bytes =
      2 * Tile<D>::bytes(columns) + columns * static_cast<uint32_t>(sizeof(RowStatistics<float>));
  const Visibility& visibility = p.visibility;
  // The first keys first: with `causal` they are seen by most queries.
  const int kv_heads = p.heads / p.group, head_count = p.batch * kv_heads;
  const int first_key = block / head_count * rows, kv_head = block % head_count % kv_heads;
  const int b = block % head_count / kv_heads;
  const int keys = math::min(rows, visibility.k_length - first_key);
  const uint32_t k_tile = shared, v_tile = k_tile + Tile<D>::bytes(rows);
  const uint32_t step_tiles = v_tile + Tile<D>::bytes(rows);  // two of [q, dout, statistics]
  const uint32_t both_step_tiles = 2 * step_tiles + step_bytes;

  const int first_query = visibility.first_query(first_key) / columns * columns;
  const int end = visibility.end_query(first_key + keys - 1);
  // Of the step that is loaded next: the head's place in its group, and the first query.
  int place = first_query < end ? 0 : p.group, query = first_query;
  const auto load_queries = [&](uint32_t to) {
    const int head = kv_head * p.group + place;
    const bf16* q = Tile<D>::cursor(p.q + b * p.q_batch_stride + query * p.q_stride + head * D, p.q_stride);
    const bf16* dout =
        Tile<D>::cursor(p.dout + b * p.dout_batch_stride + query * p.dout_stride + head * D, p.dout_stride);
    Tile<D>::template load<columns>(to, q, p.q_stride, visibility.q_length - query);
    Tile<D>::template load<columns>(to + Tile<D>::bytes(columns), dout, p.dout_stride, visibility.q_length - query);
    static_assert(columns / 2 <= attention_threads);
    if (thread_index() < columns / 2) {
      const int64_t at = (b * p.heads + head) * p.statistics_rows + query + thread_index() * 2;
      copy_async_16(to + 2 * Tile<D>::bytes(columns) + static_cast<uint32_t>(thread_index()) * 16, p.statistics + at,
                    true);
    }
    query += columns;
  };
  const bf16* k = Tile<D>::cursor(p.k + b * p.k_batch_stride + first_key * p.k_stride + kv_head * D, p.k_stride);
  const bf16* v = Tile<D>::cursor(p.v + b * p.v_batch_stride + first_key * p.v_stride + kv_head * D, p.v_stride);
  Tile<D>::template load<rows>(k_tile, k, p.k_stride, keys);
  Tile<D>::template load<rows>(v_tile, v, p.v_stride, keys);
  if (place < p.group) load_queries(step_tiles);
  copy_async_commit();

  const int lane = lane_index(), warp_row = warp_index() * M * 16;
  float dk[M][D / 8][4], dv[M][D / 8][4];
  clear(dk);
  clear(dv);
  for (uint32_t q_tile = step_tiles; place < p.group; q_tile = both_step_tiles - q_tile) {
    copy_async_wait<0>();
    sync_threads();
    const int this_query = query - columns;
    if (query >= end) {
      query = first_query;
      ++place;
    }
    if (place < p.group) load_queries(both_step_tiles - q_tile);
    copy_async_commit();
    const uint32_t dout_tile = q_tile + Tile<D>::bytes(columns);
    const auto* pairs = shared_pointer<const StatisticsPair>(dout_tile + Tile<D>::bytes(columns));
    float weights[M][N][4], dp[M][N][4];
    multiply_rows<D>(dp, v_tile, warp_row, dout_tile);
    multiply_rows<D>(weights, k_tile, warp_row, q_tile);
    if (!visibility.all_see(this_query, columns, first_key, rows)) {
      hide_transposed(weights, visibility, first_key + warp_row + lane / 4, this_query + lane % 4 * 2);
    }
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) {
      const StatisticsPair of = pairs[n * 4 + lane % 4];
      MOXIE_UNROLL
      for (int m = 0; m < M; ++m) {
        MOXIE_UNROLL
        for (int i = 0; i < 4; ++i) {
          weights[m][n][i] = exp2_approximate(weights[m][n][i] * p.scale_log2 - of.row[i % 2].lse);
          dp[m][n][i] = weights[m][n][i] * (dp[m][n][i] - of.row[i % 2].delta);
        }
      }
    }
    uint32_t p_left[M][N / 2][4], ds_left[M][N / 2][4];
    round_rows(p_left, weights);
    round_rows(ds_left, dp);
    accumulate_rows<D, M, columns>(dv, p_left, dout_tile);
    accumulate_rows<D, M, columns>(dk, ds_left, q_tile);
  }
  copy_async_wait<0>();
  sync_threads();
  scale_rows(dk, p.scale);
  const int64_t k_at = b * p.k_batch_stride + (first_key + warp_row) * p.k_stride + kv_head * D;
  const int64_t v_at = b * p.v_batch_stride + (first_key + warp_row) * p.v_stride + kv_head * D;
  store_rows<D, M>(dk, k_tile, warp_row, p.dk + k_at, p.k_stride, keys - warp_row);
  store_rows<D, M>(dv, v_tile, warp_row, p.dv + v_at, p.v_stride, keys - warp_row);
}

}  // namespace moxie::cuda
