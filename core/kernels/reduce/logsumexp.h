// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/finite.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/prefetch.h"
#include "core/math.h"

namespace moxie {

// y = log sum exp(x) of a row, shifted by its maximum; minus infinity for a row of minus infinities. `exact` gets it in
// the accumulator's type, for the backward pass; the same memory as y where that is T.
template <class T> struct LogSumExp {
  using V = Accumulator<T>;
  const T* x;
  T* y;
  V* exact;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    T* out = y + row;
    V* out_exact = exact + row;
    const V top = team.max(cols, [=](int64_t i) { return V(in[i]); });
    prefetch(in + cols, cols);
    const V shift = is_finite(top) ? top : V(0);
    // Only an infinity is above the shift. It counts as 1, which keeps a NaN beside it alive, and is added below.
    const V total = team.sum(cols, [=](int64_t i) {
      const V below = V(in[i]) - shift;
      return math::exp_nonpositive(below > V(0) ? V(0) : below);
    });
    const V value = (top > shift ? top : shift) + math::log(total);
    team.once([=] {
      out[0] = static_cast<T>(value);
      out_exact[0] = value;
    });
  }
};

// dx = dy exp(x - y); 0 where y is minus infinity
template <class T> struct LogSumExpBackward {
  using V = Accumulator<T>;
  const T* x;
  const V* exact;
  const T* dy;
  T* dx;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    T* out = dx + row * cols;
    const V upstream = V(dy[row]), total = exact[row];
    const V shift = total < V(0) && !is_finite(total) ? V(0) : total;
    const int64_t n = cols;
    branch(accumulate, [=](auto add) {
      team.each(n, [=](int64_t i) { store(out[i], upstream * math::exp(V(in[i]) - shift), add); });
    });
  }
};

}  // namespace moxie
