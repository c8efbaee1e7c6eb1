// SPDX-License-Identifier: Apache-2.0
// Attention backward for every dtype and head_dim; see attention_plain.cuh.
#pragma once
#include "cuda/attention_plain.cuh"

namespace moxie::cuda {

// The dout and the statistics of one query head.
template <class T> struct PlainCotangent {
  HeadRows<const T> dout;
  const RowStatistics<Accumulator<T>>* statistics;  // [q_length]
  MOXIE_DEVICE PlainCotangent(const AttentionBackward& p, const void* all_statistics, int64_t b, int64_t h)
      : dout{static_cast<const T*>(p.dout) + b * p.dout_batch_stride + h * p.forward.head_dim, p.dout_stride,
             static_cast<int>(p.forward.q_length)},
        statistics(static_cast<const RowStatistics<Accumulator<T>>*>(all_statistics) +
                   (b * p.forward.heads + h) * p.forward.q_length) {}
};

// Turns a tile of products q . k, of which number (i, j) belongs to query_of(i, j) and key_of(i, j), into weights, and
// the tile `slope` into the scores' derivatives by the scaled products; both are 0 where the query doesn't see the key.
template <class T, class C, class QueryOf, class KeyOf>
MOXIE_DEVICE void weights_plain(PlainTile<C>& tile, PlainTile<C>& slope, const PlainHead<T>& head,
                                const PlainCotangent<T>& cotangent, bool all_see, const QueryOf& query_of,
                                const KeyOf& key_of) {
  PlainTile<C>::each([&](int i, int j) {
    const int query = query_of(i, j);
    if (!all_see && !head.sees(query, key_of(i, j))) {
      tile.value[i][j] = slope.value[i][j] = 0;
      return;
    }
    const C score = head.score(tile.value[i][j]);
    tile.value[i][j] = math::exp(score - cotangent.statistics[query].lse);
    slope.value[i][j] = head.slope(score);
  });
}

// dq of the queries of block `block` of plain_blocks<Chunks>(q_length, ..); `shared` has PlainMemory's bytes.
template <class T, int Chunks>
MOXIE_DEVICE void attention_plain_query_gradient(const AttentionBackward& p, const void* statistics, int64_t block,
                                                 void* shared) {
  using C = Accumulator<T>;
  using Tile = PlainTile<C>;
  const Attention& f = p.forward;
  const PlainMemory<C> memory(shared);
  const PlainPlace place = plain_place<Chunks>(block, f.q_length, f.batch, f.heads);
  const PlainHead<T> head(f, place.b, place.h);
  const PlainCotangent<T> cotangent(p, statistics, place.b, place.h);
  const int first_query = place.first_row;
  const int last_query = math::min(first_query + plain_tile, head.visibility.q_length) - 1;
  C dq[4][4 * Chunks] = {};

  const int end = head.visibility.end_key(last_query);
  for (int key = head.visibility.first_key(first_query) / plain_tile * plain_tile; key < end; key += plain_tile) {
    const bool all_see = head.all_see(first_query, key);
    const auto query_of = [&](int i, int) { return first_query + Tile::row(i); };
    const auto key_of = [&](int, int j) { return key + Tile::column(j); };
    Tile tile, slope, dp;
    multiply_plain(tile, memory, head.q, first_query, head.k, key, head.head_dim);
    weights_plain(tile, slope, head, cotangent, all_see, query_of, key_of);
    multiply_plain(dp, memory, cotangent.dout, first_query, head.v, key, head.head_dim);
    Tile::each([&](int i, int j) {
      const int query = query_of(i, j);
      const bool sees = all_see || head.sees(query, key_of(i, j));
      dp.value[i][j] =
          sees ? tile.value[i][j] * (dp.value[i][j] - cotangent.statistics[query].delta) * slope.value[i][j] : C(0);
    });
    weigh_plain<Chunks>(dq, dp, memory, head.k, key, place.first_column, head.head_dim, all_see,
                        [&](int i, int c) { return head.sees(first_query + i, key + c); });
  }
  const HeadRows<T> to{static_cast<T*>(p.dq) + place.b * f.q_batch_stride + place.h * f.head_dim, f.q_stride,
                       head.visibility.q_length};
  store_plain<Chunks>(dq, to, first_query, place.first_column, head.head_dim, [&](int) { return head.scale; });
}

// dk and dv of the keys of block `block` of plain_blocks<Chunks>(k_length, .., kv_heads, ..), summed over the query
// heads that share them, one after another.
template <class T, int Chunks>
MOXIE_DEVICE void attention_plain_key_gradient(const AttentionBackward& p, const void* statistics, int64_t block,
                                               void* shared) {
  using C = Accumulator<T>;
  using Tile = PlainTile<C>;
  const Attention& f = p.forward;
  const PlainMemory<C> memory(shared);
  const PlainPlace place = plain_place<Chunks>(block, f.k_length, f.batch, f.kv_heads);
  const Visibility visibility = Visibility::of(f);
  const int first_key = place.first_row, last_key = math::min(first_key + plain_tile, visibility.k_length) - 1;
  const int head_dim = static_cast<int>(f.head_dim);
  const int64_t group = f.heads / f.kv_heads;
  C dk[4][4 * Chunks] = {}, dv[4][4 * Chunks] = {};

  for (int64_t h = place.h * group; h < (place.h + 1) * group; ++h) {
    const PlainHead<T> head(f, place.b, h);
    const PlainCotangent<T> cotangent(p, statistics, place.b, h);
    const int end = visibility.end_query(last_key);
    for (int query = visibility.first_query(first_key) / plain_tile * plain_tile; query < end; query += plain_tile) {
      const bool all_see = head.all_see(query, first_key);
      const auto query_of = [&](int, int j) { return query + Tile::column(j); };
      const auto key_of = [&](int i, int) { return first_key + Tile::row(i); };
      const auto used = [&](int i, int c) { return head.sees(query + c, first_key + i); };
      Tile tile, slope, dp;
      multiply_plain(tile, memory, head.k, first_key, head.q, query, head_dim);
      weights_plain(tile, slope, head, cotangent, all_see, query_of, key_of);
      weigh_plain<Chunks>(dv, tile, memory, cotangent.dout, query, place.first_column, head_dim, all_see, used);
      multiply_plain(dp, memory, head.v, first_key, cotangent.dout, query, head_dim);
      Tile::each([&](int i, int j) {
        const bool sees = all_see || head.sees(query_of(i, j), key_of(i, j));
        const C delta = sees ? cotangent.statistics[query_of(i, j)].delta : C(0);
        dp.value[i][j] = sees ? tile.value[i][j] * (dp.value[i][j] - delta) * slope.value[i][j] : C(0);
      });
      weigh_plain<Chunks>(dk, dp, memory, head.q, query, place.first_column, head_dim, all_see, used);
    }
  }
  const int64_t at = place.h * f.head_dim;
  const HeadRows<T> dk_rows{static_cast<T*>(p.dk) + place.b * f.k_batch_stride + at, f.k_stride, visibility.k_length};
  const HeadRows<T> dv_rows{static_cast<T*>(p.dv) + place.b * f.v_batch_stride + at, f.v_stride, visibility.k_length};
  const C scale = static_cast<C>(f.scale);
  store_plain<Chunks>(dk, dk_rows, first_key, place.first_column, head_dim, [&](int) { return scale; });
  store_plain<Chunks>(dv, dv_rows, first_key, place.first_column, head_dim, [&](int) { return C(1); });
}

}  // namespace moxie::cuda
