// SPDX-License-Identifier: Apache-2.0
// Attention forward for every dtype and head_dim; see attention_plain.cuh.
#pragma once
#include "cuda/attention_plain.cuh"

namespace moxie::cuda {

// The work of block `block` of plain_blocks<Chunks>(q_length, ..); `shared` has PlainMemory's bytes.
template <class T, int Chunks>
MOXIE_DEVICE void attention_plain_forward(const Attention& p, int64_t block, void* shared) {
  using C = Accumulator<T>;
  using Tile = PlainTile<C>;
  constexpr C infinity = std::numeric_limits<C>::infinity();
  const PlainMemory<C> memory(shared);
  const PlainPlace place = plain_place<Chunks>(block, p.q_length, p.batch, p.heads);
  const PlainHead<T> head(p, place.b, place.h);
  const int first_query = place.first_row;
  const int last_query = math::min(first_query + plain_tile, head.visibility.q_length) - 1;
  C out[4][4 * Chunks] = {}, top[4], sum[4];
  MOXIE_UNROLL
  for (int i = 0; i < 4; ++i) top[i] = -infinity, sum[i] = 0;

  const int end = head.visibility.end_key(last_query);
  for (int key = head.visibility.first_key(first_query) / plain_tile * plain_tile; key < end; key += plain_tile) {
    const bool all_see = head.all_see(first_query, key);
    Tile tile;
    multiply_plain(tile, memory, head.q, first_query, head.k, key, head.head_dim);
    Tile::each([&](int i, int j) {
      const bool sees = all_see || head.sees(first_query + Tile::row(i), key + Tile::column(j));
      tile.value[i][j] = sees ? head.score(tile.value[i][j]) : -infinity;
    });
    MOXIE_UNROLL
    for (int i = 0; i < 4; ++i) {
      C largest = top[i];
      MOXIE_UNROLL
      for (int j = 0; j < 4; ++j) largest = tile.value[i][j] > largest ? tile.value[i][j] : largest;
      MOXIE_UNROLL
      for (int mask = 8; mask > 0; mask /= 2) {
        const C other = shuffle_xor(largest, mask);
        largest = other > largest ? other : largest;
      }
      // Where nothing is visible yet, the top is -inf, and -inf - -inf would be NaN.
      const C base = largest == -infinity ? C(0) : largest, shrink = math::exp(top[i] - base);
      top[i] = largest;
      C total = 0;
      MOXIE_UNROLL
      for (int j = 0; j < 4; ++j) total += tile.value[i][j] = math::exp(tile.value[i][j] - base);
      MOXIE_UNROLL
      for (int mask = 8; mask > 0; mask /= 2) total += shuffle_xor(total, mask);
      sum[i] = sum[i] * shrink + total;
      MOXIE_UNROLL
      for (int j = 0; j < 4 * Chunks; ++j) out[i][j] *= shrink;
    }
    weigh_plain<Chunks>(out, tile, memory, head.v, key, place.first_column, head.head_dim, all_see,
                        [&](int i, int c) { return head.sees(first_query + i, key + c); });
  }

  const HeadRows<T> to{static_cast<T*>(p.out) + place.b * p.out_batch_stride + place.h * p.head_dim, p.out_stride,
                       head.visibility.q_length};
  store_plain<Chunks>(out, to, first_query, place.first_column, head.head_dim,
                      [&](int i) { return sum[i] == 0 ? C(0) : 1 / sum[i]; });
  if (place.first_column != 0 || thread_index() % 16 != 0) return;
  C* lse = static_cast<C*>(p.lse) + (place.b * p.heads + place.h) * p.q_length;
  MOXIE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int query = first_query + Tile::row(i);
    if (query <= last_query) lse[query] = sum[i] == 0 ? -infinity : top[i] + math::log(sum[i]);
  }
}

}  // namespace moxie::cuda
