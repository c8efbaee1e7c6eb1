// SPDX-License-Identifier: Apache-2.0
// attention_forward.cuh for Hopper's warpgroups (compare Shah et al., "FlashAttention-3", 2024): two of them, each with
// 64 queries of a head, walk over the keys, 128 at a time. The products with one block's values are under way while the
// softmax of the next block's scores is computed.
#pragma once
#include "cuda/attention_forward.cuh"
#include "cuda/attention_panels.cuh"

namespace moxie::cuda {

struct WarpgroupForwardShape {
  static constexpr int rows = 64 * attention_warpgroups, columns = 128;
};

// q, and two blocks each of k and v.
template <int D> constexpr uint32_t warpgroup_forward_shared_bytes() {
  return Panels<D, WarpgroupForwardShape::rows>::bytes + 4 * Panels<D, WarpgroupForwardShape::columns>::bytes;
}

// How many blocks there are: the queries of a head in WarpgroupForwardShape::rows, head by head.
inline int64_t warpgroup_forward_blocks(const ForwardProblem& p) {
  constexpr int rows = WarpgroupForwardShape::rows;
  return int64_t{p.head_count} * ((p.visibility.q_length + rows - 1) / rows);
}

// The work of block `block`; `shared` has warpgroup_forward_shared_bytes<D>().
template <int D> MOXIE_DEVICE void attention_forward_warpgroup(const ForwardProblem& p, int block, uint32_t shared) {
  constexpr int rows = WarpgroupForwardShape::rows, columns = WarpgroupForwardShape::columns, N = columns / 8;
  using Queries = Panels<D, rows>;
  using Keys = Panels<D, columns>;
  const Visibility& visibility = p.visibility;
  // The last queries first: with `causal` they have most keys.
  const int blocks = (visibility.q_length + rows - 1) / rows;
  const int first_query = (blocks - 1 - block / p.head_count) * rows, head = block % p.head_count;
  const int b = head / p.heads, h = head % p.heads;
  const int queries = math::min(rows, visibility.q_length - first_query);
  // k and v of one block are each at one of two places.
  const uint32_t q_tile = shared, k_tiles = q_tile + Queries::bytes, v_tiles = k_tiles + 2 * Keys::bytes;

  const int end = visibility.end_key(first_query + queries - 1);
  int key = visibility.first_key(first_query) / columns * columns;
  const int64_t kv_at = h / p.group * D;
  const bf16* q = Queries::cursor(p.q + b * p.q_batch_stride + first_query * p.q_stride + h * D, p.q_stride);
  const bf16* k = Keys::cursor(p.k + b * p.k_batch_stride + key * p.k_stride + kv_at, p.k_stride);
  const bf16* v = Keys::cursor(p.v + b * p.v_batch_stride + key * p.v_stride + kv_at, p.v_stride);

  const int lane = lane_index(), warpgroup_row = warp_index() / 4 * 64, row = warp_index() * 16 + lane / 4;
  float out[1][D / 8][4];
  clear(out);
  Softmax<1> softmax;
  softmax.begin();
  float scores[1][N][4];
  uint32_t weights[1][N / 2][4];
  const auto hide_scores = [&] {
    if (!visibility.all_see(first_query + warpgroup_row, 64, key, columns)) {
      hide(scores, visibility, first_query + row, key + lane % 4 * 2);
    }
  };

  Queries::load(q_tile, q, p.q_stride, queries);
  if (key < end) {
    Keys::load(k_tiles, k, p.k_stride, visibility.k_length - key);
    copy_async_commit();
    copy_async_wait<0>();
    publish_to_warpgroups();
    sync_threads();
    if (key + columns < end) Keys::load(k_tiles + Keys::bytes, k, p.k_stride, visibility.k_length - key - columns);
    Keys::load(v_tiles, v, p.v_stride, visibility.k_length - key);
    copy_async_commit();
    clear(scores);
    hold(scores[0]);
    begin_warpgroup();
    begin_product<D, rows, columns>(scores[0], q_tile, warpgroup_row, k_tiles);
    commit_warpgroup();
    wait_warpgroup<0>();
    hold(scores[0]);
    hide_scores();
    softmax.weigh(scores, 0, 0, p.scale_log2);
    softmax.weigh(scores, 0, 1, p.scale_log2);
    round_rows(weights, scores);

    uint32_t place = 0;  // of the block before, 0 or Keys::bytes
    for (key += columns; key < end; key += columns) {
      copy_async_wait<0>();
      publish_to_warpgroups();
      sync_threads();
      const uint32_t next = Keys::bytes - place;
      if (key + columns < end) Keys::load(k_tiles + place, k, p.k_stride, visibility.k_length - key - columns);
      Keys::load(v_tiles + next, v, p.v_stride, visibility.k_length - key);
      copy_async_commit();
      clear(scores);
      hold(scores[0]);
      hold(out[0]);
      begin_warpgroup();
      begin_product<D, rows, columns>(scores[0], q_tile, warpgroup_row, k_tiles + next);
      commit_warpgroup();
      begin_sum<D, columns>(out[0], weights[0], v_tiles + place);
      commit_warpgroup();
      wait_warpgroup<1>();
      hold(scores[0]);
      hide_scores();
      const float shrink[2] = {softmax.weigh(scores, 0, 0, p.scale_log2), softmax.weigh(scores, 0, 1, p.scale_log2)};
      wait_warpgroup<0>();
      hold(out[0]);
      softmax.rescale(out, 0, 0, shrink[0]);
      softmax.rescale(out, 0, 1, shrink[1]);
      round_rows(weights, scores);
      place = next;
    }

    copy_async_wait<0>();
    publish_to_warpgroups();
    sync_threads();
    hold(out[0]);
    begin_warpgroup();
    begin_sum<D, columns>(out[0], weights[0], v_tiles + place);
    commit_warpgroup();
    wait_warpgroup<0>();
    hold(out[0]);
  }
  copy_async_commit();
  copy_async_wait<0>();
  sync_threads();
  softmax.finish(out, p.lse + static_cast<int64_t>(head) * visibility.q_length + first_query, row, queries,
                 p.scale_log2);
  const int warp_row = warp_index() * 16;
  bf16* to = p.out + b * p.out_batch_stride + (first_query + warp_row) * p.out_stride + h * D;
  store_rows<D, 1>(out, q_tile, warp_row, to, p.out_stride, queries - warp_row);
}

}  // namespace moxie::cuda
