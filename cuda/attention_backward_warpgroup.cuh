// SPDX-License-Identifier: Apache-2.0
// attention_backward.cuh for Hopper's warpgroups: two of them, each with 64 queries (for dq) or 64 keys (for dk and
// dv). What a step adds to the gradients is under way while the weights of the next step are computed, so three steps'
// rows are kept: those that are read, those that are added, and those that are copied.
#pragma once
#include "cuda/attention_backward.cuh"
#include "cuda/attention_panels.cuh"

namespace moxie::cuda {

struct WarpgroupBackwardShape {
  static constexpr int rows = 64 * attention_warpgroups, columns = 64, places = 3;
};

template <int D> constexpr uint32_t warpgroup_query_gradient_shared_bytes() {
  return 2 * Panels<D, WarpgroupBackwardShape::rows>::bytes +
         (WarpgroupBackwardShape::places + 2) * Panels<D, WarpgroupBackwardShape::columns>::bytes;
}
inline int64_t warpgroup_query_gradient_blocks(const BackwardProblem& p) {
  constexpr int rows = WarpgroupBackwardShape::rows;
  return int64_t{p.batch} * p.heads * ((p.visibility.q_length + rows - 1) / rows);
}

// dq of one block of queries; `shared` has warpgroup_query_gradient_shared_bytes<D>().
template <int D>
MOXIE_DEVICE void attention_query_gradient_warpgroup(const BackwardProblem& p, int block, uint32_t shared) {
  constexpr int rows = WarpgroupBackwardShape::rows, columns = WarpgroupBackwardShape::columns, N = columns / 8;
  using Queries = Panels<D, rows>;
  using Keys = Panels<D, columns>;
  const Visibility& visibility = p.visibility;
  // The last queries first: with `causal` they have most keys.
  const int head_count = p.batch * p.heads, blocks = (visibility.q_length + rows - 1) / rows;
  const int first_query = (blocks - 1 - block / head_count) * rows, head = block % head_count;
  const int b = head / p.heads, h = head % p.heads;
  const int queries = math::min(rows, visibility.q_length - first_query);
  const uint32_t q_tile = shared, dout_tile = q_tile + Queries::bytes;
  const uint32_t k_tiles = dout_tile + Queries::bytes;  // three; k is added to dq a step later
  const uint32_t k_tiles_end = k_tiles + WarpgroupBackwardShape::places * Keys::bytes;
  const uint32_t both_v_tiles = 2 * k_tiles_end + Keys::bytes;  // two; the sum of their addresses less one is the other

  const int end = visibility.end_key(first_query + queries - 1);
  int key = visibility.first_key(first_query) / columns * columns;
  const int64_t kv_at = h / p.group * D;
  const bf16* q = Queries::cursor(p.q + b * p.q_batch_stride + first_query * p.q_stride + h * D, p.q_stride);
  const bf16* dout =
      Queries::cursor(p.dout + b * p.dout_batch_stride + first_query * p.dout_stride + h * D, p.dout_stride);
  const bf16* k = Keys::cursor(p.k + b * p.k_batch_stride + key * p.k_stride + kv_at, p.k_stride);
  const bf16* v = Keys::cursor(p.v + b * p.v_batch_stride + key * p.v_stride + kv_at, p.v_stride);
  Queries::load(q_tile, q, p.q_stride, queries);
  Queries::load(dout_tile, dout, p.dout_stride, queries);
  uint32_t k_tile = k_tiles, k_before = k_tiles, v_tile = k_tiles_end;
  if (key < end) {
    Keys::load(k_tile, k, p.k_stride, visibility.k_length - key);
    Keys::load(v_tile, v, p.v_stride, visibility.k_length - key);
  }
  copy_async_commit();

  const int lane = lane_index(), warpgroup_row = warp_index() / 4 * 64, warp_row = warp_index() * 16;
  const int row = first_query + warp_row + lane / 4;  // the lane's first
  const RowStatistics<float> statistics[2] = {p.statistics[head * p.statistics_rows + row],
                                              p.statistics[head * p.statistics_rows + row + 8]};
  float dq[1][D / 8][4];
  clear(dq);
  float scores[1][N][4], dp[1][N][4];
  uint32_t ds[1][N / 2][4];
  bool first = true;
  for (; key < end; key += columns) {
    copy_async_wait<0>();
    publish_to_warpgroups();
    sync_threads();
    const uint32_t k_next = k_tile + Keys::bytes == k_tiles_end ? k_tiles : k_tile + Keys::bytes;
    if (key + columns < end) {
      Keys::load(k_next, k, p.k_stride, visibility.k_length - key - columns);
      Keys::load(both_v_tiles - v_tile, v, p.v_stride, visibility.k_length - key - columns);
    }
    copy_async_commit();
    clear(scores);
    clear(dp);
    hold(scores[0]);
    hold(dp[0]);
    hold(dq[0]);
    begin_warpgroup();
    begin_product<D, rows, columns>(scores[0], q_tile, warpgroup_row, k_tile);
    begin_product<D, rows, columns>(dp[0], dout_tile, warpgroup_row, v_tile);
    commit_warpgroup();
    if (!first) begin_sum<D, columns>(dq[0], ds[0], k_before);
    commit_warpgroup();
    wait_warpgroup<1>();
    hold(scores[0]);
    hold(dp[0]);
    if (!visibility.all_see(first_query + warpgroup_row, 64, key, columns)) {
      hide(scores, visibility, row, key + lane % 4 * 2);
    }
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) {
      MOXIE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const RowStatistics<float>& of_row = statistics[i / 2];
        const float weight = exp2_approximate(scores[0][n][i] * p.scale_log2 - of_row.lse);
        dp[0][n][i] = weight * (dp[0][n][i] - of_row.delta);
      }
    }
    wait_warpgroup<0>();
    hold(dq[0]);
    round_rows(ds, dp);
    first = false;
    k_before = k_tile;
    k_tile = k_next;
    v_tile = both_v_tiles - v_tile;
  }
  if (!first) {
    hold(dq[0]);
    begin_warpgroup();
    begin_sum<D, columns>(dq[0], ds[0], k_before);
    commit_warpgroup();
    wait_warpgroup<0>();
    hold(dq[0]);
  }
  copy_async_wait<0>();
  sync_threads();
  scale_rows(dq, p.scale);
  bf16* to = p.dq + b * p.q_batch_stride + (first_query + warp_row) * p.q_stride + h * D;
  store_rows<D, 1>(dq, q_tile, warp_row, to, p.q_stride, queries - warp_row);
}

template <int D> constexpr uint32_t warpgroup_key_gradient_shared_bytes() {
  constexpr uint32_t columns = WarpgroupBackwardShape::columns, places = WarpgroupBackwardShape::places;
  return 2 * Panels<D, WarpgroupBackwardShape::rows>::bytes +
         places * (2 * Panels<D, columns>::bytes + columns * static_cast<uint32_t>(sizeof(RowStatistics<float>)));
}
inline int64_t warpgroup_key_gradient_blocks(const BackwardProblem& p) {
  constexpr int rows = WarpgroupBackwardShape::rows;
  return int64_t{p.batch} * (p.heads / p.group) * ((p.visibility.k_length + rows - 1) / rows);
}

// dk and dv of one block of keys, over all query heads that share them; `shared` has
// warpgroup_key_gradient_shared_bytes<D>(). Scores and weights are transposed, keys along the rows.
template <int D>
MOXIE_DEVICE void attention_key_gradient_warpgroup(const BackwardProblem& p, int block, uint32_t shared) {
  constexpr int rows = WarpgroupBackwardShape::rows, columns = WarpgroupBackwardShape::columns, N = columns / 8;
  using Keys = Panels<D, rows>;
  using Queries = Panels<D, columns>;
  constexpr uint32_t statistics_bytes = columns * static_cast<uint32_t>(sizeof(RowStatistics<float>));
  constexpr uint32_t step_bytes = 2 * Queries::bytes;
  const Visibility& visibility = p.visibility;
  // The first keys first: with `causal` they are seen by most queries.
  const int kv_heads = p.heads / p.group, head_count = p.batch * kv_heads;
  const int first_key = block / head_count * rows, kv_head = block % head_count % kv_heads;
  const int b = block % head_count / kv_heads;
  const int keys = math::min(rows, visibility.k_length - first_key);
  const uint32_t k_tile = shared, v_tile = k_tile + Keys::bytes;
  const uint32_t step_tiles = v_tile + Keys::bytes;  // three of [q, dout], then three of statistics
  const uint32_t step_tiles_end = step_tiles + WarpgroupBackwardShape::places * step_bytes;

  const int first_query = visibility.first_query(first_key) / columns * columns;
  const int end = visibility.end_query(first_key + keys - 1);
  // Of the step that is loaded next: the head's place in its group, and the first query.
  int place = first_query < end ? 0 : p.group, query = first_query;
  const auto statistics_of = [&](uint32_t tile) {
    return step_tiles_end + (tile - step_tiles) / step_bytes * statistics_bytes;
  };
  const auto load_queries = [&](uint32_t to) {
    const int head = kv_head * p.group + place;
    const bf16* q = Queries::cursor(p.q + b * p.q_batch_stride + query * p.q_stride + head * D, p.q_stride);
    const bf16* dout =
        Queries::cursor(p.dout + b * p.dout_batch_stride + query * p.dout_stride + head * D, p.dout_stride);
    Queries::load(to, q, p.q_stride, visibility.q_length - query);
    Queries::load(to + Queries::bytes, dout, p.dout_stride, visibility.q_length - query);
    static_assert(columns / 2 <= attention_warpgroup_threads);
    if (thread_index() < columns / 2) {
      const int64_t at = (b * p.heads + head) * p.statistics_rows + query + thread_index() * 2;
      copy_async_16(statistics_of(to) + static_cast<uint32_t>(thread_index()) * 16, p.statistics + at, true);
    }
    query += columns;
  };
  const bf16* k = Keys::cursor(p.k + b * p.k_batch_stride + first_key * p.k_stride + kv_head * D, p.k_stride);
  const bf16* v = Keys::cursor(p.v + b * p.v_batch_stride + first_key * p.v_stride + kv_head * D, p.v_stride);
  Keys::load(k_tile, k, p.k_stride, keys);
  Keys::load(v_tile, v, p.v_stride, keys);
  if (place < p.group) load_queries(step_tiles);
  copy_async_commit();

  const int lane = lane_index(), warpgroup_row = warp_index() / 4 * 64, warp_row = warp_index() * 16;
  float dk[1][D / 8][4], dv[1][D / 8][4];
  clear(dk);
  clear(dv);
  float weights[1][N][4], dp[1][N][4];
  uint32_t p_left[1][N / 2][4], ds_left[1][N / 2][4];
  uint32_t tile = step_tiles, tile_before = step_tiles;
  bool first = true;
  while (place < p.group) {
    copy_async_wait<0>();
    publish_to_warpgroups();
    sync_threads();
    const int this_query = query - columns;
    if (query >= end) {
      query = first_query;
      ++place;
    }
    const uint32_t next = tile + step_bytes == step_tiles_end ? step_tiles : tile + step_bytes;
    if (place < p.group) load_queries(next);
    copy_async_commit();
    clear(weights);
    clear(dp);
    hold(weights[0]);
    hold(dp[0]);
    hold(dk[0]);
    hold(dv[0]);
    begin_warpgroup();
    begin_product<D, rows, columns>(weights[0], k_tile, warpgroup_row, tile);
    begin_product<D, rows, columns>(dp[0], v_tile, warpgroup_row, tile + Queries::bytes);
    commit_warpgroup();
    if (!first) {
      begin_sum<D, columns>(dv[0], p_left[0], tile_before + Queries::bytes);
      begin_sum<D, columns>(dk[0], ds_left[0], tile_before);
    }
    commit_warpgroup();
    wait_warpgroup<1>();
    hold(weights[0]);
    hold(dp[0]);
    if (!visibility.all_see(this_query, columns, first_key + warpgroup_row, 64)) {
      hide_transposed(weights, visibility, first_key + warp_row + lane / 4, this_query + lane % 4 * 2);
    }
    const auto* pairs = shared_pointer<const StatisticsPair>(statistics_of(tile));
    MOXIE_UNROLL
    for (int n = 0; n < N; ++n) {
      const StatisticsPair of = pairs[n * 4 + lane % 4];
      MOXIE_UNROLL
      for (int i = 0; i < 4; ++i) {
        weights[0][n][i] = exp2_approximate(weights[0][n][i] * p.scale_log2 - of.row[i % 2].lse);
        dp[0][n][i] = weights[0][n][i] * (dp[0][n][i] - of.row[i % 2].delta);
      }
    }
    wait_warpgroup<0>();
    hold(dk[0]);
    hold(dv[0]);
    round_rows(p_left, weights);
    round_rows(ds_left, dp);
    first = false;
    tile_before = tile;
    tile = next;
  }
  if (!first) {
    hold(dk[0]);
    hold(dv[0]);
    begin_warpgroup();
    begin_sum<D, columns>(dv[0], p_left[0], tile_before + Queries::bytes);
    begin_sum<D, columns>(dk[0], ds_left[0], tile_before);
    commit_warpgroup();
    wait_warpgroup<0>();
    hold(dk[0]);
    hold(dv[0]);
  }
  copy_async_wait<0>();
  sync_threads();
  scale_rows(dk, p.scale);
  const int64_t k_at = b * p.k_batch_stride + (first_key + warp_row) * p.k_stride + kv_head * D;
  const int64_t v_at = b * p.v_batch_stride + (first_key + warp_row) * p.v_stride + kv_head * D;
  store_rows<D, 1>(dk, k_tile, warp_row, p.dk + k_at, p.k_stride, keys - warp_row);
  store_rows<D, 1>(dv, v_tile, warp_row, p.dv + v_at, p.v_stride, keys - warp_row);
}

}  // namespace moxie::cuda
