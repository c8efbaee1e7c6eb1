// SPDX-License-Identifier: Apache-2.0
// A team is the group of threads that owns one row. A kernel is written once against its verbs:
//   each(n, f)    f(i) for every i in [0, n); the bodies are independent of each other
//   each(n, f, g) g(i, f(i)) for every i; several f may come before their g, so that a thread of a GPU waits for memory
//                 once for all of them
//   sum(n, f)     the sum of f(i), in the type of f(i)
//   max(n, f)     the largest f(i); minus infinity for n = 0
//   argmax(n, f)  the index of the largest f(i), the lowest where several are equal; NaN never wins; -1 for n = 0
//   once(f)       f() by one member
//   sync()        what members wrote before is seen by all after
// All members call the verbs in the same order; code outside a verb has no side effects.
// SerialTeam is one CPU thread. cuda/ has WarpTeam and BlockTeam, core/thread_team.h one of real threads for tests.
#pragma once
#include <cstdint>
#include <limits>

#include "core/macros.h"

namespace moxie {

struct SerialTeam {
  template <class F> MOXIE_FN void each(int64_t n, F f) const {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) f(i);
  }
  template <class F, class G> MOXIE_FN void each(int64_t n, F f, G g) const {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) g(i, f(i));
  }
  // Sums and maxima go through both halves of the row at once: each addition waits for the one before in its half only.
  template <class F> MOXIE_FN auto sum(int64_t n, F f) const {
    const int64_t half = n / 2;
    decltype(f(int64_t{0})) low = 0, high = 0;
#pragma omp simd reduction(+ : low, high)
    for (int64_t i = 0; i < half; ++i) {
      low += f(i);
      high += f(half + i);
    }
    if (n % 2 != 0) high += f(n - 1);
    return low + high;
  }
  template <class F> MOXIE_FN auto max(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    const int64_t half = n / 2;
    Value low = -std::numeric_limits<Value>::infinity(), high = low;
#pragma omp simd reduction(max : low, high)
    for (int64_t i = 0; i < half; ++i) {
      const Value a = f(i), b = f(half + i);
      low = a > low ? a : low;
      high = b > high ? b : high;
    }
    if (n % 2 != 0) {
      const Value last = f(n - 1);
      high = last > high ? last : high;
    }
    return high > low ? high : low;
  }
  template <class F> MOXIE_FN int64_t argmax(int64_t n, F f) const {
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
