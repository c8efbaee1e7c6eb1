// SPDX-License-Identifier: Apache-2.0
// Attention backward on the CPU: probabilities are computed again from lse, block by block.
//   p = exp(scale q k^T - lse),  D = rowsum(dout * out),  ds = p * (dout v^T - D)
//   dv = p^T dout,  dk = scale ds^T q,  dq = scale ds k
// One task owns a key/value head and walks over all queries that read it, so that dk and dv need no atomics.
#include "core/attention_cpu.h"

namespace moxie::attention_cpu {
namespace {

constexpr int64_t query_block = 64;
constexpr int64_t key_block = 64;

// One block of queries of one head, in every layout that the products ask for.
template <class C> struct QueryBlock {
  C* q;         // [query_block, padded], scaled
  C* dout;      // [query_block, padded]
  C* q_t;       // [head_dim, query_block], scaled
  C* dout_t;    // [head_dim, query_block]
  C* dq;        // [query_block, padded], not yet scaled
  C* lse;       // [query_block]; +inf where nothing is to be seen, so that p = 0
  C* dot;       // [query_block], rowsum(dout * out)
  C* p;         // [key_block, query_block]
  C* ds;        // [key_block, query_block]
  C* k_rows;    // [key_block, padded]
  C* v_rows;    // [key_block, padded]
  C* out_rows;  // [query_block, padded]
};

// A block of keys and values, and where their gradients are summed.
template <class C> struct KeyBlock {
  const C* k;
  const C* v;
  int64_t k_row, v_row;
  C* dk;
  C* dv;
  int64_t dk_row, dv_row;
  int64_t first;  // index of the first key
  int64_t keys;
};

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
    const int64_t keys = std::min(block.keys, visibility.keys_of(query + w) - block.first);
    for (int64_t j = 0; j < keys; ++j) {
      const C p = b.p[j * query_block + w], ds = b.ds[j * query_block + w];
      for (int64_t i = 0; i < head_dim; ++i) {
        block.dv[j * block.dv_row + i] += p * b.dout[w * padded + i];
        block.dk[j * block.dk_row + i] += ds * b.q[w * padded + i];
        b.dq[w * padded + i] += ds * block.k[j * block.k_row + i];
      }
    }
  }
}

// All that one block of queries and one block of keys give each other.
template <class C>
void attend_backward(const QueryBlock<C>& b, const KeyBlock<C>& block, const Visibility& visibility, int64_t query,
                     int64_t queries, int64_t head_dim, int64_t padded) {
  constexpr int64_t width = tile_columns<C>;
  const bool diagonal = visibility.keys_of(query) - block.first < block.keys;
  int64_t visible[query_block / width];
  for (int64_t t = 0; t * width < queries; ++t) {
    const int64_t at = t * width, lanes = std::min(width, queries - at);
    const int64_t keys = std::clamp<int64_t>(visibility.keys_of(query + at + lanes - 1) - block.first, 0, block.keys);
    visible[t] = keys;
    C* p = b.p + at;
    C* ds = b.ds + at;
    multiply<tile_vectors, false>(
        Product<C>{block.k, block.k_row, 1, b.q_t + at, query_block, p, query_block, head_dim, false}, keys);
    multiply<tile_vectors, false>(
        Product<C>{block.v, block.v_row, 1, b.dout_t + at, query_block, ds, query_block, head_dim, false}, keys);
    probabilities(p, ds, b.lse + at, b.dot + at, keys);
    if (!diagonal) continue;
    const int64_t seen_by_all = std::max<int64_t>(0, visibility.keys_of(query + at) - block.first);
    for (int64_t j = std::min(seen_by_all, keys); j < block.keys; ++j) {
      for (int64_t w = 0; w < width; ++w) {
        if (visibility.keys_of(query + at + w) > block.first + j) continue;
        p[j * query_block + w] = 0;
        ds[j * query_block + w] = 0;
      }
    }
  }
  if (diagonal && !(all_finite(b.q, padded, queries, padded) && all_finite(b.dout, padded, queries, padded) &&
                    all_finite(block.k, block.k_row, block.keys, head_dim))) {
    return accumulate_pairs(b, block, visibility, query, queries, head_dim, padded);
  }
  const int64_t step = diagonal ? 2 * tile_rows : block.keys;
  for (int64_t j = 0; j < block.keys; j += step) {
    const int64_t rows = std::min(step, block.keys - j);
    // The first query that sees key j.
    int64_t w = 0;
    while (w < queries && visibility.keys_of(query + w) <= block.first + j) ++w;
    if (w == queries) break;
    multiply_columns<false>(Product<C>{b.p + j * query_block + w, query_block, 1, b.dout + w * padded, padded,
                                       block.dv + j * block.dv_row, block.dv_row, queries - w, true},
                            rows, padded);
    multiply_columns<false>(Product<C>{b.ds + j * query_block + w, query_block, 1, b.q + w * padded, padded,
                                       block.dk + j * block.dk_row, block.dk_row, queries - w, true},
                            rows, padded);
  }
  for (int64_t t = 0; t * width < queries; ++t) {
    const int64_t at = t * width;
    multiply_columns<true>(
        Product<C>{b.ds + at, 1, query_block, block.k, block.k_row, b.dq + at * padded, padded, visible[t], true},
        std::min(width, queries - at), padded);
  }
}

// Loads the queries, their outputs' gradients and statistics.
template <class T, class C>
void load_queries(const AttentionBackward& problem, int64_t batch, int64_t h, int64_t first, int64_t queries,
                  const QueryBlock<C>& b, int64_t padded) {
  const Attention& p = problem.forward;
  const int64_t d = p.head_dim;
  const T* q = static_cast<const T*>(p.q) + batch * p.q_batch_stride + first * p.q_stride + h * d;
  const T* out = static_cast<const T*>(p.out) + batch * p.out_batch_stride + first * p.out_stride + h * d;
  const T* dout =
      static_cast<const T*>(problem.dout) + batch * problem.dout_batch_stride + first * problem.dout_stride + h * d;
  const C* lse = static_cast<const C*>(p.lse) + (batch * p.heads + h) * p.q_length + first;
  copy_rows(q, p.q_stride, b.q, queries, d, padded, static_cast<C>(p.scale));
  copy_rows(dout, problem.dout_stride, b.dout, queries, d, padded, C{1});
  std::fill(b.q + queries * padded, b.q + query_block * padded, C{0});
  std::fill(b.dout + queries * padded, b.dout + query_block * padded, C{0});
  transpose<C>(b.q, padded, b.q_t, query_block, query_block, d, C{1});
  transpose<C>(b.dout, padded, b.dout_t, query_block, query_block, d, C{1});
  for (int64_t w = 0; w < query_block; ++w) {
    constexpr C infinity = std::numeric_limits<C>::infinity();
    b.lse[w] = w >= queries || lse[w] == -infinity ? infinity : lse[w];
    b.dot[w] = 0;
  }
  for (int64_t w = 0; w < queries; ++w) {
    C sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < d; ++i) sum += b.dout[w * padded + i] * static_cast<C>(out[w * p.out_stride + i]);
    b.dot[w] = sum;
  }
  std::fill_n(b.dq, query_block * padded, C{0});
}

constexpr int64_t scratch_elements(int64_t head_dim, int64_t padded) {
  return (4 * query_block + 2 * key_block) * padded + 2 * query_block * head_dim + 2 * query_block +
         2 * key_block * query_block + 64 * 12;
}

template <class C> QueryBlock<C> cut_query_block(C* memory, int64_t head_dim, int64_t padded) {
  Cutter<C> cut(memory);
  QueryBlock<C> b;
  b.q = cut.take(query_block * padded);
  b.dout = cut.take(query_block * padded);
  b.dq = cut.take(query_block * padded);
  b.out_rows = cut.take(query_block * padded);
  b.k_rows = cut.take(key_block * padded);
  b.v_rows = cut.take(key_block * padded);
  b.q_t = cut.take(head_dim * query_block);
  b.dout_t = cut.take(head_dim * query_block);
  b.lse = cut.take(query_block);
  b.dot = cut.take(query_block);
  b.p = cut.take(key_block * query_block);
  b.ds = cut.take(key_block * query_block);
  return b;
}

// All queries that read one key/value head.
template <class T, class C>
void head_backward(const AttentionBackward& problem, int64_t batch, int64_t kv_head, const QueryBlock<C>& b, C* sums,
                   int64_t padded) {
  const Attention& p = problem.forward;
  const int64_t d = p.head_dim, group = p.heads / p.kv_heads;
  const Visibility visibility(p);
  const T* k = static_cast<const T*>(p.k) + batch * p.k_batch_stride + kv_head * d;
  const T* v = static_cast<const T*>(p.v) + batch * p.v_batch_stride + kv_head * d;
  C* dk = sums;
  C* dv = sums + p.k_length * padded;
  std::fill_n(sums, 2 * p.k_length * padded, C{0});
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    for (int64_t query = 0; query < p.q_length; query += query_block) {
      const int64_t queries = std::min(query_block, p.q_length - query);
      load_queries<T>(problem, batch, h, query, queries, b, padded);
      const int64_t visible = visibility.keys_of(query + queries - 1);
      for (int64_t first = 0; first < visible; first += key_block) {
        const int64_t keys = std::min(key_block, visible - first);
        KeyBlock<C> block{};
        block.first = first;
        block.keys = keys;
        copy_rows(k + first * p.k_stride, p.k_stride, b.k_rows, keys, d, padded, C{1});
        copy_rows(v + first * p.v_stride, p.v_stride, b.v_rows, keys, d, padded, C{1});
        block.k = b.k_rows;
        block.v = b.v_rows;
        block.k_row = block.v_row = padded;
        block.dk = dk + first * padded;
        block.dv = dv + first * padded;
        block.dk_row = block.dv_row = padded;
        attend_backward(b, block, visibility, query, queries, d, padded);
      }
      T* dq = static_cast<T*>(problem.dq) + batch * p.q_batch_stride + query * p.q_stride + h * d;
      for (int64_t w = 0; w < queries; ++w) {
        for (int64_t i = 0; i < d; ++i) {
          dq[w * p.q_stride + i] = static_cast<T>(b.dq[w * padded + i] * static_cast<C>(p.scale));
        }
      }
    }
  }
  T* dk_out = static_cast<T*>(problem.dk) + batch * p.k_batch_stride + kv_head * d;
  T* dv_out = static_cast<T*>(problem.dv) + batch * p.v_batch_stride + kv_head * d;
  for (int64_t j = 0; j < p.k_length; ++j) {
    for (int64_t i = 0; i < d; ++i) dk_out[j * p.k_stride + i] = static_cast<T>(dk[j * padded + i]);
    for (int64_t i = 0; i < d; ++i) dv_out[j * p.v_stride + i] = static_cast<T>(dv[j * padded + i]);
  }
}

}  // namespace

template <class T> void backward(const AttentionBackward& problem) {
  using C = Accumulator<T>;
  const Attention& p = problem.forward;
  const int64_t padded = round_up(p.head_dim, Simd<C>::lanes);
  const int64_t block_elements = scratch_elements(p.head_dim, padded);
  const Scratch<C> scratch(round_up(block_elements, 64) + 2 * p.k_length * padded);
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
