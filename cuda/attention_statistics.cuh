// SPDX-License-Identifier: Apache-2.0
// What the backward pass wants to know of each query beforehand.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/attention.h"
#include "core/dtype.h"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

template <class C> struct alignas(2 * sizeof(C)) RowStatistics {
  C lse;    // log-sum-exp of the scores; +inf where no key is seen, so that exp(score - lse) is 0
  C delta;  // sum of dout * out
};

struct alignas(16) StatisticsPair {
  RowStatistics<float> row[2];
};

template <class T> struct StatisticsProblem {
  const T* out;
  const T* dout;
  const Accumulator<T>* lse;  // [batch, heads, q_length]
  int64_t out_stride, out_batch_stride, dout_stride, dout_batch_stride;
  RowStatistics<Accumulator<T>>* statistics;  // [batch, heads, rows], rows >= q_length
  int64_t rows;
  int64_t heads, q_length, head_dim;
  int64_t count;              // batch * heads * rows
  Accumulator<T> lse_factor;  // what lse is multiplied by
};

template <class T>
StatisticsProblem<T> statistics_problem(const AttentionBackward& p, int64_t rows, void* statistics,
                                        Accumulator<T> lse_factor) {
  using C = Accumulator<T>;
  const Attention& f = p.forward;
  return {static_cast<const T*>(f.out),
          static_cast<const T*>(p.dout),
          static_cast<const C*>(f.lse),
          f.out_stride,
          f.out_batch_stride,
          p.dout_stride,
          p.dout_batch_stride,
          static_cast<RowStatistics<C>*>(statistics),
          rows,
          f.heads,
          f.q_length,
          f.head_dim,
          f.batch * f.heads * rows,
          lse_factor};
}

inline constexpr int statistics_threads = 256;

template <class T> int64_t statistics_blocks(const StatisticsProblem<T>& p) {
  constexpr int64_t rows = statistics_threads / warp_size;
  return (p.count + rows - 1) / rows;
}

// One warp per query. Queries beyond q_length get (inf, 0).
template <class T> MOXIE_DEVICE void attention_statistics(const StatisticsProblem<T>& p, int64_t block) {
  using C = Accumulator<T>;
  const int64_t index = block * (statistics_threads / warp_size) + warp_index();
  if (index >= p.count) return;
  const int64_t query = index % p.rows, head = index / p.rows, b = head / p.heads, h = head % p.heads;
  RowStatistics<C> result{std::numeric_limits<C>::infinity(), 0};
  if (query < p.q_length) {
    const T* out = p.out + b * p.out_batch_stride + query * p.out_stride + h * p.head_dim;
    const T* dout = p.dout + b * p.dout_batch_stride + query * p.dout_stride + h * p.head_dim;
    C sum = 0;
    for (int64_t i = lane_index(); i < p.head_dim; i += warp_size) {
      sum += static_cast<C>(out[i]) * static_cast<C>(dout[i]);
    }
    MOXIE_UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    const C lse = p.lse[head * p.q_length + query];
    if (lse != -std::numeric_limits<C>::infinity()) result.lse = lse * p.lse_factor;
    result.delta = sum;
  }
  if (lane_index() == 0) p.statistics[index] = result;
}

}  // namespace moxie::cuda
