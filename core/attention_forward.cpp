// SPDX-License-Identifier: Apache-2.0
// Attention forward on the CPU. Queries lie along the lanes of vectors and keys along the rows, so the softmax of every
// query runs down its own lane: no sums across lanes, and keys and values are read as they are where nothing turns or
// converts them.
//   for each block of keys:  s = k q^T, with a softcap c tanh(s / c), where the query does not see the key -inf,
//                            m' = max(m, s),  p = exp(s - m'),  l = l e^(m - m') + sum p,
//                            o^T = o^T e^(m - m') + v^T p
//   at the end:              out = o / l,  lse = m + log l
// What the products are made of is the arithmetic A (core/attention_pairs.h): queries are scaled as they are read, or
// scores are where pairs of bf16 would round the scaled queries once more.
#include "core/attention_cpu.h"

namespace moxie::attention_cpu {
namespace {

constexpr int64_t query_block = 128;
constexpr int64_t key_block = 128;
static_assert(key_block <= most_keys);

// tile_columns queries of one head: their state while the blocks of keys pass by.
template <class A> struct QueryTile {
  using C = typename A::Scalar;
  typename A::Element* q;  // [elements of head_dim, width], scaled where the scores aren't
  C* out;                  // [head_dim, width], not yet divided by the sum
  C* top;                  // [width], the largest score so far
  C* sum;                  // [width], of exp(score - top)
};

// A block of keys and values.
template <class A> struct KeyBlock {
  Rows<typename A::Element> k;
  Rows<typename A::Scalar> values;
  Rows<typename A::Element> v;  // elements along the keys
  int64_t first;                // index of the first key
};

// Memory of a thread beside its tiles.
template <class A> struct Memory {
  using C = typename A::Scalar;
  using E = typename A::Element;
  C* scores;             // [key_block, width]
  C* rows;               // [width, padded]
  C *k_rows, *v_rows;    // [key_block, padded]
  E* q_pairs;            // [width, elements of padded]
  E *k_pairs, *v_pairs;  // [key_block, elements of padded], [elements of key_block, padded]
  E* p_pairs;            // [elements of key_block, width]
};

template <class A> Memory<A> cut_memory(Cutter<typename A::Scalar>& cut, int64_t padded) {
  using E = typename A::Element;
  constexpr int64_t width = tile_columns<typename A::Scalar>;
  Memory<A> memory{};
  memory.scores = cut.take(key_block * width);
  memory.rows = cut.take(width * padded);
  memory.k_rows = cut.take(key_block * padded);
  memory.v_rows = cut.take(key_block * padded);
  if (A::group == 1) return memory;
  memory.q_pairs = cut.template take_as<E>(width * padded / 2);
  memory.k_pairs = cut.template take_as<E>(key_block * padded / 2);
  memory.v_pairs = cut.template take_as<E>(key_block * padded / 2);
  memory.p_pairs = cut.template take_as<E>(key_block * width / 2);
  return memory;
}

template <class C> constexpr C minus_infinity = -std::numeric_limits<C>::infinity();

// Turns the scores of one block into exp(score - top) and rescales what the tile has summed so far.
template <class A, class C = typename A::Scalar>
void update_softmax(const QueryTile<A>& tile, C* scores, int64_t keys, int64_t head_dim) {
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
template <class A>
void attend(const QueryTile<A>& tile, const KeyBlock<A>& block, const Visibility& visibility, int64_t query,
            int64_t queries, int64_t block_keys, const Attention& p, const Memory<A>& memory) {
  using C = typename A::Scalar;
  using E = typename A::Element;
  constexpr int64_t width = tile_columns<C>;
  const int64_t head_dim = p.head_dim;
  const auto softcap = static_cast<C>(p.softcap);
  C* scores = memory.scores;
  // Of the block, the keys that some query of the tile sees, from the beginning of an element on.
  const int64_t begin = std::max<int64_t>(0, visibility.first_key_of(query) - block.first) / A::group * A::group;
  const int64_t first = block.first + begin;
  const int64_t keys = std::min(block_keys - begin, visibility.end_key_of(query + queries - 1) - first);
  if (keys <= 0) return;
  const E* k = block.k.data + begin * block.k.row;
  const C* v = block.values.data + begin * block.values.row;
  multiply<tile_vectors, false>(Product<E>{k, block.k.row, 1, tile.q, width, scores, width, elements_of<A>(head_dim),
                                           false, static_cast<C>(p.scale)},
                                keys);
  if (softcap > 0) soften(scores, keys, softcap);
  const int64_t hidden = hide(visibility, query, queries, first, keys, scores, width, minus_infinity<C>);
  update_softmax(tile, scores, keys, head_dim);
  // The other half of the last element may be the value of a key that nobody here sees.
  const int64_t read = std::min(elements_of<A>(keys) * A::group, block_keys - begin);
  if (hidden < read && !all_finite(v + hidden * block.values.row, block.values.row, read - hidden, head_dim)) {
    // 0 * inf is NaN: a value must not reach the queries that do not see it.
    if (first == 0) std::fill_n(tile.out, head_dim * width, C{0});
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t w = 0; w < queries; ++w) {
        if (!visibility.sees(query + w, first + j)) continue;
        for (int64_t i = 0; i < head_dim; ++i) {
          tile.out[i * width + w] += v[j * block.values.row + i] * scores[j * width + w];
        }
      }
    }
    return;
  }
  const Rows<E> weights = along_rows<A>(Rows<C>{scores, width}, keys, width, memory.p_pairs);
  multiply<tile_vectors, true>(Product<E>{block.v.data + begin / A::group * block.v.row, 1, block.v.row, weights.data,
                                          width, tile.out, width, elements_of<A>(keys), first != 0},
                               head_dim);
}

// Divides by the sums and stores the tile's queries.
template <class T, class A, class C = typename A::Scalar>
void finish(const QueryTile<A>& tile, T* out, int64_t out_stride, C* lse, int64_t queries, int64_t head_dim, C* rows) {
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

// Keys and values from `first` on, in every form that the products ask for.
template <class T, class A>
KeyBlock<A> load_keys(const Attention& p, const T* k, const T* v, int64_t first, int64_t keys, int64_t padded,
                      const Memory<A>& memory) {
  using C = typename A::Scalar;
  const Rows<C> k_rows = rows_of(k + first * p.k_stride, p.k_stride, memory.k_rows, keys, p.head_dim, padded,
                                 turn_of<C>(p).from(first)),
                v_rows = rows_of(v + first * p.v_stride, p.v_stride, memory.v_rows, keys, p.head_dim, padded);
  return {along_columns<A>(k_rows, keys, padded, memory.k_pairs), v_rows,
          along_rows<A>(v_rows, keys, padded, memory.v_pairs), first};
}

// One block of queries of one head.
template <class T, class A>
void query_block_forward(const Attention& p, int64_t b, int64_t h, int64_t first_query, typename A::Scalar* scratch) {
  using C = typename A::Scalar;
  using E = typename A::Element;
  constexpr int64_t width = tile_columns<C>;
  constexpr int64_t max_tiles = query_block / width;
  const int64_t d = p.head_dim, padded = padded_head_dim<A>(d), kv_head = h / (p.heads / p.kv_heads);
  const int64_t queries = std::min(query_block, p.q_length - first_query);
  const int64_t tiles = (queries + width - 1) / width;
  const Visibility visibility(p, b, h);
  const T* q = static_cast<const T*>(p.q) + b * p.q_batch_stride + first_query * p.q_stride + h * d;
  const T* k = static_cast<const T*>(p.k) + b * p.k_batch_stride + kv_head * d;
  const T* v = static_cast<const T*>(p.v) + b * p.v_batch_stride + kv_head * d;

  Cutter<C> cut(scratch);
  const Memory<A> memory = cut_memory<A>(cut, padded);
  QueryTile<A> state[max_tiles];
  for (int64_t t = 0; t < tiles; ++t) {
    QueryTile<A>& tile = state[t];
    tile = {cut.template take_as<E>(elements_of<A>(padded) * width), cut.take(d * width), cut.take(width),
            cut.take(width)};
    const int64_t count = std::min(width, queries - t * width), first = first_query + t * width;
    copy_rows(q + t * width * p.q_stride, p.q_stride, memory.rows, count, d, padded,
              A::group == 1 ? static_cast<C>(p.scale) : C{1}, turn_of<C>(p).from(visibility.offset + first));
    std::fill(memory.rows + count * padded, memory.rows + width * padded, C{0});
    const Rows<E> elements = along_columns<A>(Rows<C>{memory.rows, padded}, width, padded, memory.q_pairs);
    transpose<E>(elements.data, elements.row, tile.q, width, width, elements_of<A>(padded));
    std::fill_n(tile.out, d * width, C{0});
    std::fill_n(tile.top, width, minus_infinity<C>);
    std::fill_n(tile.sum, width, C{0});
  }

  const int64_t visible = visibility.end_key_of(first_query + queries - 1);
  const int64_t begin = visibility.first_key_of(first_query) / key_block * key_block;
  for (int64_t first = begin; first < visible; first += key_block) {
    const int64_t keys = std::min(key_block, visible - first);
    const KeyBlock<A> block = load_keys<T, A>(p, k, v, first, keys, padded, memory);
    for (int64_t t = 0; t < tiles; ++t) {
      attend(state[t], block, visibility, first_query + t * width, std::min(width, queries - t * width), keys, p,
             memory);
    }
  }

  T* out = static_cast<T*>(p.out) + b * p.out_batch_stride + first_query * p.out_stride + h * d;
  C* lse = static_cast<C*>(p.lse) + (b * p.heads + h) * p.q_length + first_query;
  for (int64_t t = 0; t < tiles; ++t) {
    finish(state[t], out + t * width * p.out_stride, p.out_stride, lse + t * width,
           std::min(width, queries - t * width), d, memory.rows);
  }
}

}  // namespace

template <class T, class A> void forward(const Attention& p) {
  using C = typename A::Scalar;
  constexpr int64_t width = tile_columns<C>;
  const int64_t blocks = (p.q_length + query_block - 1) / query_block;
  const int64_t tiles = query_block / width, padded = padded_head_dim<A>(p.head_dim);
  const int64_t pairs = A::group == 1 ? 0 : (width + 2 * key_block) * padded / 2 + key_block * width / 2;
  const Scratch<C> scratch(key_block * width + (width + 2 * key_block) * padded + pairs +
                           2 * tiles * width * (padded + 1) + 64 * (8 + 4 * tiles));
  const int64_t work = p.q_length * p.k_length * p.head_dim;
  const int64_t tasks = p.batch * p.heads * blocks;
  parallel_for_uneven(tasks, p.batch * p.heads * work >= parallel_threshold, [&](int64_t task) {
    // The blocks with most visible keys first, so that the threads end together.
    const int64_t block = blocks - 1 - task / (p.batch * p.heads), head = task % (p.batch * p.heads);
    query_block_forward<T, A>(p, head / p.heads, head % p.heads, block * query_block, scratch.mine());
  });
}

template void forward<double>(const Attention&);
template void forward<float>(const Attention&);
template void forward<bf16, Whole<float>>(const Attention&);
template void forward<bf16, Pairs>(const Attention&);

}  // namespace moxie::attention_cpu
