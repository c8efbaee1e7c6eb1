// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/finite.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/prefetch.h"
#include "core/math.h"
#include "core/team.h"

namespace moxie {

// y = exp(x - max) / sum exp(x - max) of a row
template <class T> struct Softmax {
  const T* x;
  T* y;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T* in = x + row * cols;
    T* out = y + row * cols;
    const V top = team.max(cols, [=](int64_t i) { return V(in[i]); });
    prefetch(in + cols, cols);
    // On the CPU y keeps the exponentials between the two passes; on a GPU writing costs more than computing them
    // again.
    if constexpr (sizeof(T) == sizeof(V) && std::is_same_v<Team, SerialTeam>) {
      const V total = team.sum(cols, [=](int64_t i) {
        const V e = math::exp_nonpositive(V(in[i]) - top);
        out[i] = e;
        return e;
      });
      const V scale = V(1) / total;
      store_each(team, cols, out, false, [=](int64_t i) { return out[i] * scale; });
    } else {
      const V total = team.sum(cols, [=](int64_t i) { return math::exp_nonpositive(V(in[i]) - top); });
      const V scale = V(1) / total;
      store_each(team, cols, out, false, [=](int64_t i) { return math::exp_nonpositive(V(in[i]) - top) * scale; });
    }
  }
};

// dx = y (dy - sum(dy y))
template <class T> struct SoftmaxBackward {
  const T* y;
  const T* dy;
  T* dx;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T *p = y + row * cols, *g = dy + row * cols;
    T* out = dx + row * cols;
    const V dot = team.sum(cols, [=](int64_t i) { return V(p[i]) * V(g[i]); });
    const int64_t n = cols;
    branch(accumulate,
           [=](auto add) { store_each(team, n, out, add, [=](int64_t i) { return V(p[i]) * (V(g[i]) - dot); }); });
  }
};

// y = (x - max) - log sum exp(x - max), in this order: large x don't cost y its digits
template <class T> struct LogSoftmax {
  const T* x;
  T* y;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T* in = x + row * cols;
    T* out = y + row * cols;
    const V top = team.max(cols, [=](int64_t i) { return V(in[i]); });
    prefetch(in + cols, cols);
    const V total = team.sum(cols, [=](int64_t i) { return math::exp_nonpositive(V(in[i]) - top); });
    const V log_total = math::log(total);
    store_each(team, cols, out, false, [=](int64_t i) { return (V(in[i]) - top) - log_total; });
  }
};

// dx = dy - exp(y) sum(dy)
template <class T> struct LogSoftmaxBackward {
  const T* y;
  const T* dy;
  T* dx;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T *p = y + row * cols, *g = dy + row * cols;
    T* out = dx + row * cols;
    const V total = team.sum(cols, [=](int64_t i) { return V(g[i]); });
    const int64_t n = cols;
    branch(accumulate, [=](auto add) {
      store_each(team, n, out, add, [=](int64_t i) { return V(g[i]) - math::exp_nonpositive(V(p[i])) * total; });
    });
  }
};

}  // namespace moxie
