// SPDX-License-Identifier: Apache-2.0
// Cross entropy of softmax(logits) with one target class per row; rows whose target is `ignored` count for nothing.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/prefetch.h"
#include "core/math.h"

namespace moxie {

// lse = log sum exp(x), loss = lse - x[target], counted = 1; or loss = counted = 0 where ignored
template <class T> struct CrossEntropy {
  using V = Accumulator<T>;
  const T* x;
  const int32_t* targets;
  V* lse;
  V* loss;
  V* counted;
  int64_t cols;
  int32_t ignored;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    const int32_t target = targets[row];
    const bool counts = target != ignored;
    const V top = team.max(cols, [=](int64_t i) { return V(in[i]); });
    prefetch(in + cols, cols);
    const V total = team.sum(cols, [=](int64_t i) { return math::exp_nonpositive(V(in[i]) - top); });
    const V log_total = math::log(total);
    V *lse_at = lse + row, *loss_at = loss + row, *counted_at = counted + row;
    team.once([=] {
      *lse_at = top + log_total;
      *loss_at = counts ? (top - V(in[target])) + log_total : V(0);  // in this order: large x don't cost it its digits
      *counted_at = counts ? V(1) : V(0);
    });
  }
};

// loss = totals[0] / count with count = totals[1], the number or the weight of the rows that count. Where none does,
// count is infinite, so that the loss is 0.
template <class V> struct MeanLoss {
  const V* totals;
  V* count;
  V* loss;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const V sum = totals[0], counted = totals[1];
    V *count_at = count, *loss_at = loss;
    team.once([=] {
      const V divisor = counted == V(0) ? std::numeric_limits<V>::infinity() : counted;
      *count_at = divisor;
      *loss_at = sum / divisor;
    });
  }
};

// dx = dloss / count (exp(x - lse) - [i = target]); 0 in ignored rows
template <class T> struct CrossEntropyBackward {
  using V = Accumulator<T>;
  const T* x;
  const int32_t* targets;
  const V* lse;
  const V* count;  // of all rows that aren't ignored
  const V* dloss;
  T* dx;
  int64_t cols;
  int32_t ignored;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    T* out = dx + row * cols;
    const int32_t target = targets[row];
    const bool counts = target != ignored;
    const V scale = *dloss / *count, shift = lse[row];
    const int64_t n = cols;
    branch(accumulate, [=](auto add) {
      store_each(team, n, out, add, [=](int64_t i) {
        const V wanted = i == target ? V(1) : V(0);
        return counts ? scale * (math::exp_nonpositive(V(in[i]) - shift) - wanted) : V(0);
      });
    });
  }
};

// Both at once, of logits that nobody needs afterwards: x becomes the gradient of the sum of all losses. The row is
// still in the cache when it is written.
template <class T> struct CrossEntropyInPlace {
  using V = Accumulator<T>;
  T* x;
  const int32_t* targets;
  V* loss;
  V* counted;
  int64_t cols;
  int32_t ignored;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    T* in = x + row * cols;
    const int32_t target = targets[row];
    const bool counts = target != ignored;
    const V aimed = counts ? V(in[target]) : V(0);
    const V top = team.max(cols, [=](int64_t i) { return V(in[i]); });
    const V total = team.sum(cols, [=](int64_t i) { return math::exp_nonpositive(V(in[i]) - top); });
    const V log_total = math::log(total), shift = top + log_total;
    V *loss_at = loss + row, *counted_at = counted + row;
    team.once([=] {
      *loss_at = counts ? (top - aimed) + log_total : V(0);
      *counted_at = counts ? V(1) : V(0);
    });
    team.sync();  // all have read in[target]
    store_each(team, cols, in, false, [=](int64_t i) {
      const V wanted = i == target ? V(1) : V(0);
      return counts ? math::exp_nonpositive(V(in[i]) - shift) - wanted : V(0);
    });
  }
};

}  // namespace moxie
