// SPDX-License-Identifier: Apache-2.0
// A team is the group of threads that owns one row. A kernel is written once against its verbs:
//   each(n, f)    f(i) for every i in [0, n); the bodies are independent of each other
//   each(n, f, g) g(i, f(i)) for every i; several f may come before their g, so that a thread of a GPU waits for memory
//                 once for all of them
//   sum(n, f)     the sum of f(i), in the type of f(i); f is called once for each i, and may write what belongs to i
//   max(n, f)     the largest f(i); minus infinity for n = 0
//   argmax(n, f)  the index of the largest f(i), the lowest where several are equal; NaN never wins; -1 for n = 0
//   once(f)       f() by one member
//   sync()        what members wrote before is seen by all after
// All members call the verbs in the same order; code outside a verb has no side effects.
// SerialTeam is one CPU thread. cuda/ has WarpTeam and BlockTeam, core/thread_team.h one of real threads for tests.
#pragma once
#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/macros.h"

namespace moxie {

namespace detail {

// One of `lanes` partial results by pairs.
template <int64_t lanes, class Value, class Combine> MOXIE_FN Value fold(Value* lane, Combine combine) {
  if constexpr (lanes == 1) {
    return lane[0];
  } else {
    constexpr int64_t half = lanes / 2;
#pragma omp simd
    for (int64_t l = 0; l < half; ++l) lane[l] = combine(lane[l], lane[half + l]);
    return fold<half>(lane, combine);
  }
}

// f(0) to f(n - 1) combined in lanes, element i in lane i mod `lanes`, from `start`, which changes no result.
template <int64_t lanes, class Value, class F, class Combine>
MOXIE_FN Value reduce_in_lanes(int64_t n, Value start, F f, Combine combine) {
  alignas(64) Value lane[lanes];
  for (int64_t l = 0; l < lanes; ++l) lane[l] = start;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
#pragma omp simd
    for (int64_t l = 0; l < lanes; ++l) lane[l] = combine(lane[l], f(i + l));
  }
#pragma omp simd
  for (int64_t l = 0; l < n - i; ++l) lane[l] = combine(lane[l], f(i + l));
  return fold<lanes>(lane, combine);
}

// In 32 lanes: vectors of any processor add in the same order, and memory is read from its beginning to its end. Two
// streams in one page, such as the halves of a row, come in at half the speed: the processor's own prefetching follows
// one. Eight lanes give the same for the few elements that fit them, such as the scores of eight experts.
template <class Value, class F, class Combine> MOXIE_FN Value reduce(int64_t n, Value start, F f, Combine combine) {
  constexpr int64_t few = 8;
  return n <= few ? reduce_in_lanes<few>(n, start, f, combine) : reduce_in_lanes<32>(n, start, f, combine);
}

}  // namespace detail

struct SerialTeam {
  template <class F> MOXIE_FN void each(int64_t n, F f) const {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) f(i);
  }
  template <class F, class G> MOXIE_FN void each(int64_t n, F f, G g) const {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) g(i, f(i));
  }
  template <class F> MOXIE_FN auto sum(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    return detail::reduce(n, Value(0), f, [](Value total, Value v) { return total + v; });
  }
  template <class F> MOXIE_FN auto max(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    const auto larger = [](Value top, Value v) { return v > top ? v : top; };
    return detail::reduce(n, -std::numeric_limits<Value>::infinity(), f, larger);
  }
  template <class F> MOXIE_FN int64_t argmax(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    // Vectors find the largest of many, and then the first that is as large, unless NaN may be among them.
    if constexpr (std::is_same_v<Value, int64_t>) {
      if (n > 16) {
        const auto larger = [](Value top, Value v) { return v > top ? v : top; };
        const auto smaller = [](int64_t x, int64_t y) { return x < y ? x : y; };
        const Value top = detail::reduce(n, std::numeric_limits<Value>::min(), f, larger);
        return detail::reduce(
            n, n, [=](int64_t i) { return f(i) == top ? i : n; }, smaller);
      }
    }
    int64_t best = n > 0 ? 0 : -1;
    if (n == 0) return best;
    auto top = f(int64_t{0});
    for (int64_t i = 1; i < n; ++i) {
      const auto value = f(i);
      const bool better = value > top || (top != top && value == value);
      best = better ? i : best;
      top = better ? value : top;
    }
    return best;
  }
  template <class F> MOXIE_FN void once(F f) const { f(); }
  MOXIE_FN void sync() const {}
};

}  // namespace moxie
