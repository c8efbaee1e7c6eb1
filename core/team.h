// SPDX-License-Identifier: Apache-2.0
// A team is the group of threads that owns one row. A kernel is written once against its verbs:
//   each(n, f)    f(i) for every i in [0, n); the bodies are independent of each other
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
  template <class F> MOXIE_FN auto sum(int64_t n, F f) const {
    decltype(f(int64_t{0})) total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; ++i) total += f(i);
    return total;
  }
  template <class F> MOXIE_FN auto max(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    Value top = -std::numeric_limits<Value>::infinity();
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; ++i) {
      const Value value = f(i);
      top = value > top ? value : top;
    }
    return top;
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
