// SPDX-License-Identifier: Apache-2.0
// Attention forward on the CPU. Queries lie along the lanes of vectors and keys along the rows, so the softmax of every
// query runs down its own lane: no sums across lanes, and keys and values are read as they are.
//   for each block of keys:  s = k q^T, with a softcap c tanh(s / c), where the query does not see the key -inf,
//                            m' = max(m, s),  p = exp(s - m'),  l = l e^(m - m') + sum p,
//                            o^T = o^T e^(m - m') + v^T p
//   at the end:              out = o / l,  lse = m + log l
#include "core/attention_cpu.h"

namespace moxie::attention_cpu {
namespace {

constexpr int64_t query_block = 128;
constexpr int64_t key_block = 128;
static_assert(key_block <= most_keys);

// tile_columns queries of one head: their state while the blocks of keys pass by.
template <class C> struct QueryTile {
  C* q;    // [head_dim, width], scaled
  C* out;  // [head_dim, width], not yet divided by the sum
  C* top;  // [width], the largest score so far
  C* sum;  // [width], of exp(score - top)
};

// A block of keys and values.
template <class C> struct KeyBlock {
  Rows<C> k, v;
  int64_t first;  // index of the first key
};

template <class C> constexpr C minus_infinity = -std::numeric_limits<C>::infinity();

// Turns the scores of one block into exp(score - top) and rescales what the tile has summed so far.
template <class C> void update_softmax(const QueryTile<C>& tile, C* scores, int64_t keys, int64_t head_dim) {
  constexpr int64_t width = tile_columns<C>;
  C top[width], base[width], shrink[width], sum[width];
  for (int64_t w = 0; w < width; ++w) top[w] = tile.top[w];
  for (int64_t j = 0; j < keys; ++j) {
    const C* row = scores + j * width;
#pragma omp simd
    for (int64_t w = 0; w < width; ++w) top[w] = row[w] > top[w] ? row[w] : top[w];
  }
  bool moved = false;
  for (int64_t w = 0; w < width; ++w) {
    // Where nothing is visible yet, top is -inf, and -inf - -inf would be NaN.
    base[w] = top[w] == minus_infinity<C> ? C{0} : top[w];
    shrink[w] = exponential(tile.top[w] - base[w]);
    sum[w] = tile.sum[w] * shrink[w];
    tile.top[w] = top[w];
    moved |= shrink[w] != C{1};
  }
  for (int64_t j = 0; j < keys; ++j) {
    C* row = scores + j * width;
#pragma omp simd
    for (int64_t w = 0; w < width; ++w) {
      const C p = exponential(row[w] - base[w]);
      row[w] = p;
      sum[w] += p;
    }
  }
  for (int64_t w = 0; w < width; ++w) tile.sum[w] = sum[w];
  if (!moved) return;
  for (int64_t i = 0; i < head_dim; ++i) {
#pragma omp simd
    for (int64_t w = 0; w < width; ++w) tile.out[i * width + w] *= shrink[w];
  }
}

// Passes one block of keys by one tile; `query` is the tile's first query and `queries` how many it has.
template <class C>
void attend(const QueryTile<C>& tile, const KeyBlock<C>& block, const Visibility& visibility, int64_t query,
            int64_t queries, int64_t block_keys, int64_t head_dim, C softcap, C* scores) {
  constexpr int64_t width = tile_columns<C>;
  // Of the block, the keys that some query of the tile sees.
  const int64_t begin = std::max<int64_t>(0, visibility.first_key_of(query) - block.first);
  const int64_t first = block.first + begin;
  const int64_t keys = std::min(block_keys - begin, visibility.end_key_of(query + queries - 1) - first);
  if (keys <= 0) return;
  const C* k = block.k.data + begin * block.k.row;
  const C* v = block.v.data + begin * block.v.row;
  multiply<tile_vectors, false>(Product<C>{k, block.k.row, 1, tile.q, width, scores, width, head_dim, false}, keys);
  if (softcap > 0) soften(scores, keys, softcap);
  const int64_t hidden = hide(visibility, query, queries, first, keys, scores, width, minus_infinity<C>);
  update_softmax(tile, scores, keys, head_dim);
  if (hidden < keys && !all_finite(v + hidden * block.v.row, block.v.row, keys - hidden, head_dim)) {
    // 0 * inf is NaN: a value must not reach the queries that do not see it.
    if (first == 0) std::fill_n(tile.out, head_dim * width, C{0});
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t w = 0; w < queries; ++w) {
        if (!visibility.sees(query + w, first + j)) continue;
        for (int64_t i = 0; i < head_dim; ++i) {
          tile.out[i * width + w] += v[j * block.v.row + i] * scores[j * width + w];
        }
      }
    }
    return;
  }
  multiply<tile_vectors, true>(Product<C>{v, 1, block.v.row, scores, width, tile.out, width, keys, first != 0},
                               head_dim);
}

// Divides by the sums and stores the tile's queries.
template <class T, class C>
void finish(const QueryTile<C>& tile, T* out, int64_t out_stride, C* lse, int64_t queries, int64_t head_dim, C* rows) {
  constexpr int64_t width = tile_columns<C>;
  C inverse[width];
  for (int64_t w = 0; w < width; ++w) inverse[w] = tile.sum[w] == C{0} ? C{0} : C{1} / tile.sum[w];
  for (int64_t w = 0; w < queries; ++w) {
    lse[w] = tile.sum[w] == C{0} ? minus_infinity<C> : tile.top[w] + math::log(tile.sum[w]);
  }
  transpose<C>(tile.out, width, rows, head_dim, head_dim, width);
  for (int64_t w = 0; w < queries; ++w) {
    T* to = out + w * out_stride;
#pragma omp simd
    for (int64_t i = 0; i < head_dim; ++i) {
      assign(to[i], inverse[w] == C{0} ? C{0} : rows[w * head_dim + i] * inverse[w]);
    }
  }
}

// One block of queries of one head.
template <class T>
void query_block_forward(const Attention& p, int64_t b, int64_t h, int64_t first_query, Accumulator<T>* memory) {
  using C = Accumulator<T>;
  constexpr int64_t width = tile_columns<C>;
  constexpr int64_t max_tiles = query_block / width;
  const int64_t d = p.head_dim, kv_head = h / (p.heads / p.kv_heads);
  const int64_t queries = std::min(query_block, p.q_length - first_query);
  const int64_t tiles = (queries + width - 1) / width;
  const Visibility visibility(p, b, h);
  const Turn<C> turn = turn_of<C>(p);
  const T* q = static_cast<const T*>(p.q) + b * p.q_batch_stride + first_query * p.q_stride + h * d;
  const T* k = static_cast<const T*>(p.k) + b * p.k_batch_stride + kv_head * d;
  const T* v = static_cast<const T*>(p.v) + b * p.v_batch_stride + kv_head * d;

  Cutter<C> cut(memory);
  C* scores = cut.take(key_block * width);
  C* rows = cut.take(width * d);
  C* k_rows = cut.take(key_block * d);
  C* v_rows = cut.take(key_block * d);
  QueryTile<C> state[max_tiles];
  for (int64_t t = 0; t < tiles; ++t) {
    QueryTile<C>& tile = state[t];
    tile = {cut.take(d * width), cut.take(d * width), cut.take(width), cut.take(width)};
    const int64_t count = std::min(width, queries - t * width);
    copy_rows(q + t * width * p.q_stride, p.q_stride, rows, count, d, d, static_cast<C>(p.scale),
              turn.from(visibility.offset + first_query + t * width));
    std::fill(rows + count * d, rows + width * d, C{0});
    transpose<C>(rows, d, tile.q, width, width, d);
    std::fill_n(tile.out, d * width, C{0});
    std::fill_n(tile.top, width, minus_infinity<C>);
    std::fill_n(tile.sum, width, C{0});
  }

  const int64_t visible = visibility.end_key_of(first_query + queries - 1);
  const int64_t begin = visibility.first_key_of(first_query) / key_block * key_block;
  for (int64_t first = begin; first < visible; first += key_block) {
    const int64_t keys = std::min(key_block, visible - first);
    const KeyBlock<C> block{rows_of(k + first * p.k_stride, p.k_stride, k_rows, keys, d, d, turn.from(first)),
                            rows_of(v + first * p.v_stride, p.v_stride, v_rows, keys, d, d), first};
    for (int64_t t = 0; t < tiles; ++t) {
      attend(state[t], block, visibility, first_query + t * width, std::min(width, queries - t * width), keys, d,
             static_cast<C>(p.softcap), scores);
    }
  }

  T* out = static_cast<T*>(p.out) + b * p.out_batch_stride + first_query * p.out_stride + h * d;
  C* lse = static_cast<C*>(p.lse) + (b * p.heads + h) * p.q_length + first_query;
  for (int64_t t = 0; t < tiles; ++t) {
    finish(state[t], out + t * width * p.out_stride, p.out_stride, lse + t * width,
           std::min(width, queries - t * width), d, rows);
  }
}

}  // namespace

template <class T> void forward(const Attention& p) {
  using C = Accumulator<T>;
  constexpr int64_t width = tile_columns<C>;
  const int64_t blocks = (p.q_length + query_block - 1) / query_block;
  const int64_t tiles = query_block / width;
  const Scratch<C> scratch(key_block * width + (width + 2 * key_block + 2 * tiles * width) * p.head_dim +
                           2 * tiles * width + 64 * (5 + 4 * tiles));
  const int64_t work = p.q_length * p.k_length * p.head_dim;
  const int64_t tasks = p.batch * p.heads * blocks;
  parallel_for_uneven(tasks, p.batch * p.heads * work >= parallel_threshold, [&](int64_t task) {
    // The blocks with most visible keys first, so that the threads end together.
    const int64_t block = blocks - 1 - task / (p.batch * p.heads), head = task % (p.batch * p.heads);
    query_block_forward<T>(p, head / p.heads, head % p.heads, block * query_block, scratch.mine());
  });
}

template void forward<double>(const Attention&);
template void forward<float>(const Attention&);
template void forward<bf16>(const Attention&);

}  // namespace moxie::attention_cpu
