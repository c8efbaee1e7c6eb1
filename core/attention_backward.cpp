// SPDX-License-Identifier: Apache-2.0
// Attention backward on the CPU: probabilities are computed again from lse, block by block.
//   p = exp(scale q k^T - lse),  D = rowsum(dout * out),  ds = p * (dout v^T - D)
//   dv = p^T dout,  dk = scale ds^T q,  dq = scale ds k
// With a softcap c, t = tanh(scale q k^T / c): p = exp(c t - lse), and ds gets the factor 1 - t^2. Where a query does
// not see a key, p = ds = 0.
// One task owns a key/value head and walks over all queries that read it, so that dk and dv need no atomics.
#include "core/attention_cpu.h"

namespace moxie::attention_cpu {
namespace {

constexpr int64_t query_block = 64;
constexpr int64_t key_block = 64;
static_assert(key_block <= most_keys);

// One block of queries of one head, in every layout that the products ask for.
template <class C> struct QueryBlock {
  C* q;       // [query_block, padded], scaled
  C* dout;    // [query_block, padded]
  C* q_t;     // [head_dim, query_block], scaled
  C* dout_t;  // [head_dim, query_block]
  C* dq;      // [query_block, padded], not yet scaled
  C* lse;     // [query_block]; +inf where nothing is to be seen, so that p = 0
  C* dot;     // [query_block], rowsum(dout * out)
  C* p;       // [key_block, query_block]
  C* ds;      // [key_block, query_block]
};

// A block of keys and values, and where their gradients are summed.
template <class C> struct KeyBlock {
  Rows<C> k, v;
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

// dq, dk and dv pair by pair: a gradient must not reach what the pair hides, and 0 * inf is NaN.
template <class C>
void accumulate_pairs(const QueryBlock<C>& b, const KeyBlock<C>& block, const Visibility& visibility, int64_t query,
                      int64_t queries, int64_t head_dim, int64_t padded) {
  for (int64_t w = 0; w < queries; ++w) {
    for (int64_t j = 0; j < block.keys; ++j) {
      if (!visibility.sees(query + w, block.first + j)) continue;
      const C p = b.p[j * query_block + w], ds = b.ds[j * query_block + w];
      for (int64_t i = 0; i < head_dim; ++i) {
        block.dv[j * block.dv_row + i] += p * b.dout[w * padded + i];
        block.dk[j * block.dk_row + i] += ds * b.q[w * padded + i];
        b.dq[w * padded + i] += ds * block.k.data[j * block.k.row + i];
      }
    }
  }
}

// All that one block of queries and one block of keys give each other.
template <class C>
void attend_backward(const QueryBlock<C>& b, const KeyBlock<C>& block, const Visibility& visibility, int64_t query,
                     int64_t queries, int64_t head_dim, C softcap, int64_t padded) {
  constexpr int64_t width = tile_columns<C>;
  const bool ragged = visibility.end_key_of(query) - block.first < block.keys ||
                      visibility.first_key_of(query + queries - 1) > block.first;
  bool hidden = false;
  int64_t begin[query_block / width], keys[query_block / width];  // of each tile: what some of its queries see
  for (int64_t t = 0; t * width < queries; ++t) {
    const int64_t at = t * width, lanes = std::min(width, queries - at);
    const auto in_block = [&](int64_t key) { return std::clamp<int64_t>(key - block.first, 0, block.keys); };
    begin[t] = in_block(visibility.first_key_of(query + at));
    keys[t] = std::max<int64_t>(0, in_block(visibility.end_key_of(query + at + lanes - 1)) - begin[t]);
    C* p = b.p + begin[t] * query_block + at;
    C* ds = b.ds + begin[t] * query_block + at;
    multiply<tile_vectors, false>(Product<C>{block.k.data + begin[t] * block.k.row, block.k.row, 1, b.q_t + at,
                                             query_block, p, query_block, head_dim, false},
                                  keys[t]);
    multiply<tile_vectors, false>(Product<C>{block.v.data + begin[t] * block.v.row, block.v.row, 1, b.dout_t + at,
                                             query_block, ds, query_block, head_dim, false},
                                  keys[t]);
    softcap > 0 ? capped_probabilities(p, ds, b.lse + at, b.dot + at, keys[t], softcap)
                : probabilities(p, ds, b.lse + at, b.dot + at, keys[t]);
    if (!ragged && visibility.mask == nullptr) continue;
    for (C* values : {b.p + at, b.ds + at}) {
      hidden |= hide(visibility, query + at, lanes, block.first, block.keys, values, query_block, C{0}) < block.keys;
    }
  }
  if (hidden && !(all_finite(b.q, padded, queries, padded) && all_finite(b.dout, padded, queries, padded) &&
                  all_finite(block.k.data, block.k.row, block.keys, head_dim))) {
    return accumulate_pairs(b, block, visibility, query, queries, head_dim, padded);
  }
  const int64_t step = ragged ? 2 * tile_rows : block.keys;
  for (int64_t j = 0; j < block.keys; j += step) {
    const int64_t rows = std::min(step, block.keys - j);
    const int64_t from = std::max<int64_t>(0, visibility.first_query_of(block.first + j) - query);
    const int64_t to = std::min(queries, visibility.end_query_of(block.first + j + rows - 1) - query);
    if (from >= to) continue;
    multiply_columns<false>(Product<C>{b.p + j * query_block + from, query_block, 1, b.dout + from * padded, padded,
                                       block.dv + j * block.dv_row, block.dv_row, to - from, true},
                            rows, padded);
    multiply_columns<false>(Product<C>{b.ds + j * query_block + from, query_block, 1, b.q + from * padded, padded,
                                       block.dk + j * block.dk_row, block.dk_row, to - from, true},
                            rows, padded);
  }
  for (int64_t t = 0; t * width < queries; ++t) {
    const int64_t at = t * width;
    multiply_columns<true>(
        Product<C>{b.ds + begin[t] * query_block + at, 1, query_block, block.k.data + begin[t] * block.k.row,
                   block.k.row, b.dq + at * padded, padded, keys[t], true},
        std::min(width, queries - at), padded);
  }
}

// Loads the queries, their outputs' gradients and statistics.
template <class T, class C>
void load_queries(const AttentionBackward& problem, int64_t batch, int64_t h, int64_t first, int64_t queries,
                  const QueryBlock<C>& b, int64_t padded, const Turn<C>& turn) {
  const Attention& p = problem.forward;
  const int64_t d = p.head_dim;
  const T* q = static_cast<const T*>(p.q) + batch * p.q_batch_stride + first * p.q_stride + h * d;
  const T* out = static_cast<const T*>(p.out) + batch * p.out_batch_stride + first * p.out_stride + h * d;
  const T* dout =
      static_cast<const T*>(problem.dout) + batch * problem.dout_batch_stride + first * problem.dout_stride + h * d;
  const C* lse = static_cast<const C*>(p.lse) + (batch * p.heads + h) * p.q_length + first;
  copy_rows(q, p.q_stride, b.q, queries, d, padded, static_cast<C>(p.scale), turn);
  copy_rows(dout, problem.dout_stride, b.dout, queries, d, padded, C{1});
  std::fill(b.q + queries * padded, b.q + query_block * padded, C{0});
  std::fill(b.dout + queries * padded, b.dout + query_block * padded, C{0});
  transpose<C>(b.q, padded, b.q_t, query_block, query_block, d);
  transpose<C>(b.dout, padded, b.dout_t, query_block, query_block, d);
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
template <class T> bool in_place(const Attention& p, bool turned) {
  return std::is_same_v<T, Accumulator<T>> && p.head_dim % Simd<Accumulator<T>>::lanes == 0 && !turned;
}

constexpr int64_t scratch_elements(int64_t head_dim, int64_t padded) {
  return 3 * query_block * padded + 2 * query_block * head_dim + 2 * query_block + 2 * key_block * query_block +
         64 * 12;
}

template <class C> QueryBlock<C> cut_query_block(C* memory, int64_t head_dim, int64_t padded) {
  Cutter<C> cut(memory);
  QueryBlock<C> b;
  b.q = cut.take(query_block * padded);
  b.dout = cut.take(query_block * padded);
  b.dq = cut.take(query_block * padded);
  b.q_t = cut.take(head_dim * query_block);
  b.dout_t = cut.take(head_dim * query_block);
  b.lse = cut.take(query_block);
  b.dot = cut.take(query_block);
  b.p = cut.take(key_block * query_block);
  b.ds = cut.take(key_block * query_block);
  return b;
}

// The keys or the values of one head, and where their gradients are summed.
template <class T, class C> struct Side {
  Rows<C> rows;
  C* sums;
  int64_t sums_row;
  T* gradient;
  bool in_place;  // the sums are the gradient itself
};

// Reads keys or values of one head; `memory` holds 2 * k_length * padded elements where they are not used in place.
template <class T, class C>
Side<T, C> begin_side(const Attention& p, const void* rows, void* gradients, int64_t at, int64_t stride, C* memory,
                      int64_t padded, const Turn<C>& turn) {
  const T* from = static_cast<const T*>(rows) + at;
  Side<T, C> side{rows_of(from, stride, memory, p.k_length, p.head_dim, padded, turn), memory + p.k_length * padded,
                  padded, static_cast<T*>(gradients) + at, in_place<T>(p, turn.cosine != nullptr)};
  if constexpr (std::is_same_v<T, C>) {
    if (side.in_place) side.sums = side.gradient, side.sums_row = stride;
  }
  for (int64_t j = 0; j < p.k_length; ++j) std::fill_n(side.sums + j * side.sums_row, padded, C{0});
  return side;
}

template <class T, class C>
void end_side(const Attention& p, const Side<T, C>& side, int64_t stride, const Turn<C>& turn) {
  if (side.in_place) return;
  store_rows(side.sums, side.sums_row, side.gradient, stride, p.k_length, p.head_dim, C{1}, turn);
}

// All queries that read one key/value head.
template <class T, class C>
void head_backward(const AttentionBackward& problem, int64_t batch, int64_t kv_head, const QueryBlock<C>& b, C* memory,
                   int64_t padded) {
  const Attention& p = problem.forward;
  const int64_t d = p.head_dim, group = p.heads / p.kv_heads;
  const Turn<C> turn = turn_of<C>(p);
  const Side<T, C> k = begin_side<T, C>(p, p.k, problem.dk, batch * p.k_batch_stride + kv_head * d, p.k_stride, memory,
                                        padded, turn),
                   v = begin_side<T, C>(p, p.v, problem.dv, batch * p.v_batch_stride + kv_head * d, p.v_stride,
                                        k.in_place ? memory : memory + 2 * p.k_length * padded, padded, {});
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    const Visibility visibility(p, batch, h);
    for (int64_t query = 0; query < p.q_length; query += query_block) {
      const int64_t queries = std::min(query_block, p.q_length - query);
      const Turn<C> turn_queries = turn.from(visibility.offset + query);
      load_queries<T>(problem, batch, h, query, queries, b, padded, turn_queries);
      const int64_t visible = visibility.end_key_of(query + queries - 1);
      for (int64_t first = visibility.first_key_of(query) / key_block * key_block; first < visible;
           first += key_block) {
        const KeyBlock<C> block{k.rows.from(first),
                                v.rows.from(first),
                                k.sums + first * k.sums_row,
                                v.sums + first * v.sums_row,
                                k.sums_row,
                                v.sums_row,
                                first,
                                std::min(key_block, visible - first)};
        attend_backward(b, block, visibility, query, queries, d, static_cast<C>(p.softcap), padded);
      }
      T* dq = static_cast<T*>(problem.dq) + batch * p.q_batch_stride + query * p.q_stride + h * d;
      store_rows(b.dq, padded, dq, p.q_stride, queries, d, static_cast<C>(p.scale), turn_queries);
    }
  }
  end_side(p, k, p.k_stride, turn);
  end_side(p, v, p.v_stride, Turn<C>{});
}

}  // namespace

template <class T> void backward(const AttentionBackward& problem) {
  using C = Accumulator<T>;
  const Attention& p = problem.forward;
  const int64_t padded = round_up(p.head_dim, Simd<C>::lanes);
  const int64_t block_elements = scratch_elements(p.head_dim, padded);
  const int64_t copied = (in_place<T>(p, p.cosine != nullptr) ? 0 : 1) + (in_place<T>(p, false) ? 0 : 1);
  const Scratch<C> scratch(round_up(block_elements, 64) + 2 * copied * p.k_length * padded);
  const int64_t work = p.heads * p.q_length * p.k_length * p.head_dim;
  parallel_for_uneven(p.batch * p.kv_heads, p.batch * work >= parallel_threshold, [&](int64_t task) {
    C* memory = scratch.mine();
    head_backward<T>(problem, task / p.kv_heads, task % p.kv_heads, cut_query_block(memory, p.head_dim, padded),
                     memory + round_up(block_elements, 64), padded);
  });
}

template void backward<double>(const AttentionBackward&);
template void backward<float>(const AttentionBackward&);
template void backward<bf16>(const AttentionBackward&);

}  // namespace moxie::attention_cpu
