// SPDX-License-Identifier: Apache-2.0
// Attention backward on the CPU: probabilities are computed again from lse, block by block.
//   p = exp(scale q k^T - lse),  D = rowsum(dout * out),  ds = p * (dout v^T - D)
//   dv = p^T dout,  dk = scale ds^T q,  dq = scale ds k
// With a softcap c, t = tanh(scale q k^T / c): p = exp(c t - lse), and ds gets the factor 1 - t^2. Where a query does
// not see a key, p = ds = 0.
// One task owns a key/value head and walks over all queries that read it, so that dk and dv need no atomics.
// What the products are made of is the arithmetic A (core/attention_pairs.h): queries are scaled as they are read, or
// scores and dk are where pairs of bf16 would round the scaled queries once more.
#include "core/attention_cpu.h"

namespace moxie::attention_cpu {
namespace {

constexpr int64_t query_block = 64;
constexpr int64_t key_block = 64;
static_assert(key_block <= most_keys && key_block <= query_block);

// One block of queries of one head, in every layout that the products ask for.
template <class A> struct QueryBlock {
  using C = typename A::Scalar;
  using E = typename A::Element;
  C* q;                       // [query_block, padded], scaled where the scores aren't
  C* dout;                    // [query_block, padded]
  E *q_t, *dout_t;            // [elements of head_dim, query_block]
  Rows<E> q_rows, dout_rows;  // [elements of query_block, padded]
  C* dq;                      // [query_block, padded], not yet scaled
  C* lse;                     // [query_block]; +inf where nothing is to be seen, so that p = 0
  C* dot;                     // [query_block], rowsum(dout * out)
  C *p, *ds;                  // [key_block, query_block]
  // Memory for pairs.
  E* columns;               // [query_block, elements of padded]
  E *q_pairs, *dout_pairs;  // [elements of query_block, padded]
  E *p_pairs, *ds_pairs;    // [key_block, elements of query_block]
  E* ds_t_pairs;            // [elements of key_block, query_block]
};

// A block of keys and values, and where their gradients are summed.
template <class A> struct KeyBlock {
  using C = typename A::Scalar;
  Rows<typename A::Element> k, v;     // [keys, elements of head_dim]
  Rows<typename A::Element> k_along;  // [elements of keys, padded]
  C* dk;
  C* dv;
  int64_t dk_row, dv_row;
  int64_t first;  // index of the first key
  int64_t keys;
};

// The same with a softcap.
template <class C> void capped_probabilities(C* p, C* ds, const C* lse, const C* dot, int64_t keys, C cap) {
  constexpr int64_t width = tile_columns<C>;
  const C inverse = C{1} / cap;
  for (int64_t j = 0; j < keys; ++j) {
#pragma omp simd
    for (int64_t w = 0; w < width; ++w) {
      const C t = math::tanh(p[j * query_block + w] * inverse);
      const C probability = exponential(cap * t - lse[w]);
      p[j * query_block + w] = probability;
      ds[j * query_block + w] = probability * (ds[j * query_block + w] - dot[w]) * (C{1} - t * t);
    }
  }
}

// Turns scores into p and dout v^T into ds for the lanes of one tile.
template <class C> void probabilities(C* p, C* ds, const C* lse, const C* dot, int64_t keys) {
  constexpr int64_t width = tile_columns<C>;
  for (int64_t j = 0; j < keys; ++j) {
#pragma omp simd
    for (int64_t w = 0; w < width; ++w) {
      const C probability = exponential(p[j * query_block + w] - lse[w]);
      p[j * query_block + w] = probability;
      ds[j * query_block + w] = probability * (ds[j * query_block + w] - dot[w]);
    }
  }
}

// dq, dk and dv for each query with each key: a gradient must not reach what is hidden from it, and 0 * inf is NaN.
template <class A>
void accumulate_singly(const QueryBlock<A>& b, const KeyBlock<A>& block, const Visibility& visibility, int64_t query,
                       int64_t queries, int64_t head_dim, int64_t padded) {
  for (int64_t w = 0; w < queries; ++w) {
    for (int64_t j = 0; j < block.keys; ++j) {
      if (!visibility.sees(query + w, block.first + j)) continue;
      const auto p = b.p[j * query_block + w], ds = b.ds[j * query_block + w];
      for (int64_t i = 0; i < head_dim; ++i) {
        block.dv[j * block.dv_row + i] += p * b.dout[w * padded + i];
        block.dk[j * block.dk_row + i] += ds * b.q[w * padded + i];
        b.dq[w * padded + i] += ds * number_at(block.k.data + j * block.k.row, i);
      }
    }
  }
}

// All that one block of queries and one block of keys give each other.
template <class A>
void attend_backward(const QueryBlock<A>& b, const KeyBlock<A>& block, const Visibility& visibility, int64_t query,
                     int64_t queries, const Attention& problem, int64_t padded) {
  using C = typename A::Scalar;
  using E = typename A::Element;
  constexpr int64_t width = tile_columns<C>, group = A::group;
  const int64_t head_dim = problem.head_dim, depth = elements_of<A>(head_dim);
  const auto softcap = static_cast<C>(problem.softcap);
  const bool ragged = visibility.end_key_of(query) - block.first < block.keys ||
                      visibility.first_key_of(query + queries - 1) > block.first;
  bool hidden = false;
  int64_t begin[query_block / width], keys[query_block / width];  // of each tile: what some of its queries see
  for (int64_t t = 0; t * width < queries; ++t) {
    const int64_t at = t * width, lanes = std::min(width, queries - at);
    const auto in_block = [&](int64_t key) { return std::clamp<int64_t>(key - block.first, 0, block.keys); };
    begin[t] = in_block(visibility.first_key_of(query + at)) / group * group;
    keys[t] = std::max<int64_t>(0, in_block(visibility.end_key_of(query + at + lanes - 1)) - begin[t]);
    C* p = b.p + begin[t] * query_block + at;
    C* ds = b.ds + begin[t] * query_block + at;
    multiply<tile_vectors, false>(Product<E>{block.k.data + begin[t] * block.k.row, block.k.row, 1, b.q_t + at,
                                             query_block, p, query_block, depth, false, static_cast<C>(problem.scale)},
                                  keys[t]);
    multiply<tile_vectors, false>(Product<E>{block.v.data + begin[t] * block.v.row, block.v.row, 1, b.dout_t + at,
                                             query_block, ds, query_block, depth, false},
                                  keys[t]);
    softcap > 0 ? capped_probabilities(p, ds, b.lse + at, b.dot + at, keys[t], softcap)
                : probabilities(p, ds, b.lse + at, b.dot + at, keys[t]);
    if (!ragged && visibility.mask == nullptr) continue;
    for (C* values : {b.p + at, b.ds + at}) {
      hidden |= hide(visibility, query + at, lanes, block.first, block.keys, values, query_block, C{0}) < block.keys;
    }
  }
  // The other half of the last pair may be a key that nobody here sees.
  const int64_t read = std::min(elements_of<A>(block.keys) * group, problem.k_length - block.first);
  const auto finite = [&](const Rows<E>& rows) {
    return all_finite(rows.data, rows.row, elements_of<A>(queries), group * padded);
  };
  if (hidden && !(finite(b.q_rows) && finite(b.dout_rows) && all_finite(block.k.data, block.k.row, read, head_dim))) {
    return accumulate_singly(b, block, visibility, query, queries, head_dim, padded);
  }
  const int64_t columns = round_up(queries, width);
  if (queries % group != 0) {  // the other half of the last pair
    for (int64_t j = 0; j < block.keys; ++j) b.p[j * query_block + queries] = b.ds[j * query_block + queries] = 0;
  }
  const Rows<E> p_rows = along_columns<A>(Rows<C>{b.p, query_block}, block.keys, columns, b.p_pairs),
                ds_rows = along_columns<A>(Rows<C>{b.ds, query_block}, block.keys, columns, b.ds_pairs),
                ds_t = along_rows<A>(Rows<C>{b.ds, query_block}, block.keys, columns, b.ds_t_pairs);
  const int64_t step = ragged ? 2 * tile_rows : block.keys;
  for (int64_t j = 0; j < block.keys; j += step) {
    const int64_t rows = std::min(step, block.keys - j);
    const int64_t from = std::max<int64_t>(0, visibility.first_query_of(block.first + j) - query) / group;
    const int64_t to = elements_of<A>(std::min(queries, visibility.end_query_of(block.first + j + rows - 1) - query));
    if (from >= to) continue;
    multiply_columns<false>(
        Product<E>{p_rows.data + j * p_rows.row + from, p_rows.row, 1, b.dout_rows.data + from * padded, padded,
                   block.dv + j * block.dv_row, block.dv_row, to - from, true},
        rows, padded);
    multiply_columns<false>(
        Product<E>{ds_rows.data + j * ds_rows.row + from, ds_rows.row, 1, b.q_rows.data + from * padded, padded,
                   block.dk + j * block.dk_row, block.dk_row, to - from, true},
        rows, padded);
  }
  for (int64_t t = 0; t * width < queries; ++t) {
    const int64_t at = t * width, first = begin[t] / group;
    multiply_columns<true>(
        Product<E>{ds_t.data + first * ds_t.row + at, 1, ds_t.row, block.k_along.data + first * block.k_along.row,
                   block.k_along.row, b.dq + at * padded, padded, elements_of<A>(keys[t]), true},
        std::min(width, queries - at), padded);
  }
}

// Loads the queries, their outputs' gradients and statistics.
template <class T, class A>
void load_queries(const AttentionBackward& problem, int64_t batch, int64_t h, int64_t first, int64_t queries,
                  QueryBlock<A>& b, int64_t padded, const Turn<typename A::Scalar>& turn) {
  using C = typename A::Scalar;
  using E = typename A::Element;
  const Attention& p = problem.forward;
  const int64_t d = p.head_dim;
  const T* q = static_cast<const T*>(p.q) + batch * p.q_batch_stride + first * p.q_stride + h * d;
  const T* out = static_cast<const T*>(p.out) + batch * p.out_batch_stride + first * p.out_stride + h * d;
  const T* dout =
      static_cast<const T*>(problem.dout) + batch * problem.dout_batch_stride + first * problem.dout_stride + h * d;
  const C* lse = static_cast<const C*>(p.lse) + (batch * p.heads + h) * p.q_length + first;
  copy_rows(q, p.q_stride, b.q, queries, d, padded, A::group == 1 ? static_cast<C>(p.scale) : C{1}, turn);
  copy_rows(dout, problem.dout_stride, b.dout, queries, d, padded, C{1});
  std::fill(b.q + queries * padded, b.q + query_block * padded, C{0});
  std::fill(b.dout + queries * padded, b.dout + query_block * padded, C{0});
  const Rows<C> q_rows{b.q, padded}, dout_rows{b.dout, padded};
  for (const auto& [rows, transposed] : {std::pair{q_rows, b.q_t}, {dout_rows, b.dout_t}}) {
    const Rows<E> elements = along_columns<A>(rows, query_block, padded, b.columns);
    transpose<E>(elements.data, elements.row, transposed, query_block, query_block, elements_of<A>(d));
  }
  b.q_rows = along_rows<A>(q_rows, query_block, padded, b.q_pairs);
  b.dout_rows = along_rows<A>(dout_rows, query_block, padded, b.dout_pairs);
  for (int64_t w = 0; w < query_block; ++w) {
    constexpr C infinity = std::numeric_limits<C>::infinity();
    b.lse[w] = w >= queries || lse[w] == -infinity ? infinity : lse[w];
    b.dot[w] = 0;
  }
  for (int64_t w = 0; w < queries; ++w) {
    const T* x = out + w * p.out_stride;
    const C* y = b.dout + w * padded;
    C sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < d; ++i) sum += y[i] * static_cast<C>(x[i]);
    b.dot[w] = sum;
  }
  std::fill_n(b.dq, query_block * padded, C{0});
}

// True where keys or values are read, and the sums over queries made, in their own memory: the arithmetic's type, rows
// of whole vectors, and nothing that turns them.
template <class T, class A> bool in_place(const Attention& p, bool turned) {
  using E = typename A::Element;
  return std::is_same_v<T, E> && p.head_dim % Simd<E>::lanes == 0 && !turned;
}

template <class A> constexpr int64_t scratch_elements(int64_t head_dim, int64_t padded) {
  const int64_t pairs = A::group == 1 ? 0 : (3 * query_block * padded + 3 * key_block * query_block) / 2;
  return 3 * query_block * padded + 2 * query_block * elements_of<A>(head_dim) + 2 * query_block +
         2 * key_block * query_block + pairs + 64 * 16;
}

template <class A> QueryBlock<A> cut_query_block(typename A::Scalar* memory, int64_t head_dim, int64_t padded) {
  using E = typename A::Element;
  Cutter<typename A::Scalar> cut(memory);
  QueryBlock<A> b{};
  b.q = cut.take(query_block * padded);
  b.dout = cut.take(query_block * padded);
  b.dq = cut.take(query_block * padded);
  b.q_t = cut.template take_as<E>(elements_of<A>(head_dim) * query_block);
  b.dout_t = cut.template take_as<E>(elements_of<A>(head_dim) * query_block);
  b.lse = cut.take(query_block);
  b.dot = cut.take(query_block);
  b.p = cut.take(key_block * query_block);
  b.ds = cut.take(key_block * query_block);
  if (A::group == 1) return b;
  b.columns = cut.template take_as<E>(query_block * padded / 2);
  b.q_pairs = cut.template take_as<E>(query_block * padded / 2);
  b.dout_pairs = cut.template take_as<E>(query_block * padded / 2);
  b.p_pairs = cut.template take_as<E>(key_block * query_block / 2);
  b.ds_pairs = cut.template take_as<E>(key_block * query_block / 2);
  b.ds_t_pairs = cut.template take_as<E>(key_block * query_block / 2);
  return b;
}

// The keys or the values of one head, and where their gradients are summed.
template <class T, class A> struct Side {
  using C = typename A::Scalar;
  Rows<typename A::Element> rows;   // [k_length, elements of head_dim]
  Rows<typename A::Element> along;  // [elements of k_length, padded]
  C* sums;
  int64_t sums_row;
  T* gradient;
  bool in_place;  // the sums are the gradient itself
};

// What a side needs where it isn't in place: its rows twice, as pairs, or once, and its sums.
constexpr int64_t side_elements(int64_t k_length, int64_t padded) { return 2 * (k_length + 1) * padded; }

// Reads keys or values of one head, pairs along the rows where it `needs_along`. `rows` is memory for key_block
// of them.
template <class T, class A, class C = typename A::Scalar>
Side<T, A> begin_side(const Attention& p, const T* from, T* gradient, int64_t stride, C* memory, int64_t padded,
                      const Turn<C>& turn, [[maybe_unused]] C* rows, [[maybe_unused]] bool needs_along) {
  Side<T, A> side{{},     {},       memory + (p.k_length + 1) * padded,
                  padded, gradient, in_place<T, A>(p, turn.cosine != nullptr)};
  if constexpr (A::group == 1) {
    side.rows = side.along = rows_of(from, stride, memory, p.k_length, p.head_dim, padded, turn);
  } else {
    auto* pairs = reinterpret_cast<typename A::Element*>(memory);
    const auto along = pairs + p.k_length * padded / 2;
    side.rows = {pairs, padded / 2};
    side.along = {along, padded};
    for (int64_t first = 0; first < p.k_length; first += key_block) {
      const int64_t count = std::min(key_block, p.k_length - first);
      copy_rows(from + first * stride, stride, rows, count, p.head_dim, padded, C{1}, turn.from(first));
      pair_columns(rows, padded, count, padded, pairs + first * padded / 2, padded / 2);
      if (needs_along) pair_rows(rows, padded, count, padded, along + first / 2 * padded, padded);
    }
  }
  if constexpr (std::is_same_v<T, C>) {
    if (side.in_place) side.sums = gradient, side.sums_row = stride;
  }
  for (int64_t j = 0; j < p.k_length; ++j) std::fill_n(side.sums + j * side.sums_row, padded, C{0});
  return side;
}

template <class T, class A, class C = typename A::Scalar>
void end_side(const Attention& p, const Side<T, A>& side, int64_t stride, C factor, const Turn<C>& turn) {
  if (side.in_place) return;
  store_rows(side.sums, side.sums_row, side.gradient, stride, p.k_length, p.head_dim, factor, turn);
}

// All queries that read one key/value head.
template <class T, class A, class C = typename A::Scalar>
void head_backward(const AttentionBackward& problem, int64_t batch, int64_t kv_head, QueryBlock<A> b, C* memory,
                   int64_t padded) {
  const Attention& p = problem.forward;
  const int64_t d = p.head_dim, group = p.heads / p.kv_heads;
  const int64_t k_at = batch * p.k_batch_stride + kv_head * d, v_at = batch * p.v_batch_stride + kv_head * d;
  const Turn<C> turn = turn_of<C>(p);
  const auto scale = static_cast<C>(p.scale);
  const Side<T, A> k = begin_side<T, A>(p, static_cast<const T*>(p.k) + k_at, static_cast<T*>(problem.dk) + k_at,
                                        p.k_stride, memory, padded, turn, b.q, true),
                   v = begin_side<T, A>(p, static_cast<const T*>(p.v) + v_at, static_cast<T*>(problem.dv) + v_at,
                                        p.v_stride, k.in_place ? memory : memory + side_elements(p.k_length, padded),
                                        padded, Turn<C>{}, b.q, false);
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    const Visibility visibility(p, batch, h);
    for (int64_t query = 0; query < p.q_length; query += query_block) {
      const int64_t queries = std::min(query_block, p.q_length - query);
      const Turn<C> turn_queries = turn.from(visibility.offset + query);
      load_queries<T, A>(problem, batch, h, query, queries, b, padded, turn_queries);
      const int64_t visible = visibility.end_key_of(query + queries - 1);
      for (int64_t first = visibility.first_key_of(query) / key_block * key_block; first < visible;
           first += key_block) {
        const KeyBlock<A> block{k.rows.from(first),
                                v.rows.from(first),
                                k.along.from(first / A::group),
                                k.sums + first * k.sums_row,
                                v.sums + first * v.sums_row,
                                k.sums_row,
                                v.sums_row,
                                first,
                                std::min(key_block, visible - first)};
        attend_backward(b, block, visibility, query, queries, p, padded);
      }
      T* dq = static_cast<T*>(problem.dq) + batch * p.q_batch_stride + query * p.q_stride + h * d;
      store_rows(b.dq, padded, dq, p.q_stride, queries, d, scale, turn_queries);
    }
  }
  end_side(p, k, p.k_stride, A::group == 1 ? C{1} : scale, turn);
  end_side(p, v, p.v_stride, C{1}, Turn<C>{});
}

}  // namespace

template <class T, class A> void backward(const AttentionBackward& problem) {
  using C = typename A::Scalar;
  const Attention& p = problem.forward;
  const int64_t padded = round_up(p.head_dim, Simd<C>::lanes);
  const int64_t block_elements = round_up(scratch_elements<A>(p.head_dim, padded), 64);
  const int64_t sides = (in_place<T, A>(p, p.cosine != nullptr) ? 0 : 1) + (in_place<T, A>(p, false) ? 0 : 1);
  const Scratch<C> scratch(block_elements + sides * side_elements(p.k_length, padded));
  const int64_t work = p.heads * p.q_length * p.k_length * p.head_dim;
  parallel_for_uneven(p.batch * p.kv_heads, p.batch * work >= parallel_threshold, [&](int64_t task) {
    C* memory = scratch.mine();
    head_backward<T, A>(problem, task / p.kv_heads, task % p.kv_heads, cut_query_block<A>(memory, p.head_dim, padded),
                        memory + block_elements, padded);
  });
}

template void backward<double>(const AttentionBackward&);
template void backward<float>(const AttentionBackward&);
template void backward<bf16, Whole<float>>(const AttentionBackward&);
template void backward<bf16, Pairs>(const AttentionBackward&);

}  // namespace moxie::attention_cpu
