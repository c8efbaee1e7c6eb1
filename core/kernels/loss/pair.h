// SPDX-License-Identifier: Apache-2.0
// Losses of two arrays of one shape, element by element: f(x, y, c) with a constant c, or with one c per column.
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"

namespace moxie {

// Each: the loss of one element and its derivatives by x and by y.
// (x - y)^2
struct SquaredError {
  static constexpr bool by_column = false;
  template <class V> static MOXIE_FN V f(V x, V y, V) { return (x - y) * (x - y); }
  template <class V> static MOXIE_FN V dx(V x, V y, V) { return V(2) * (x - y); }
  template <class V> static MOXIE_FN V dy(V x, V y, V) { return V(2) * (y - x); }
};

// |x - y|, derivative 0 where both are equal
struct AbsoluteError {
  static constexpr bool by_column = false;
  template <class V> static MOXIE_FN V f(V x, V y, V) { return math::abs(x - y); }
  template <class V> static MOXIE_FN V dx(V x, V y, V) {
    const V d = x - y;
    return d > V(0) ? V(1) : d < V(0) ? V(-1) : d;  // NaN stays NaN
  }
  template <class V> static MOXIE_FN V dy(V x, V y, V c) { return -dx(x, y, c); }
};

// (x - y)^2 / 2 up to |x - y| = c, and the straight line c (|x - y| - c / 2) beyond (Huber 1964)
struct HuberError {
  static constexpr bool by_column = false;
  template <class V> static MOXIE_FN V f(V x, V y, V c) {
    const V d = math::abs(x - y);
    return d > c ? c * (d - V(0.5) * c) : V(0.5) * (d * d);
  }
  template <class V> static MOXIE_FN V dx(V x, V y, V c) {
    const V d = x - y;
    return d > c ? c : d < -c ? -c : d;
  }
  template <class V> static MOXIE_FN V dy(V x, V y, V c) { return -dx(x, y, c); }
};

// -(c y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))), where c weighs the positive class; -log sigmoid(x) is
// softplus(-x) = max(-x, 0) + log(1 + exp(-|x|))
struct LogitsCrossEntropy {
  static constexpr bool by_column = true;
  template <class V> static MOXIE_FN V f(V x, V y, V c) {
    const V rest = math::softplus(-math::abs(x));
    return c * y * (math::max(-x, V(0)) + rest) + (V(1) - y) * (math::max(x, V(0)) + rest);
  }
  template <class V> static MOXIE_FN V dx(V x, V y, V c) {
    return (V(1) - y) * math::sigmoid(x) - c * y * math::sigmoid(-x);
  }
  template <class V> static MOXIE_FN V dy(V x, V, V c) {
    const V rest = math::softplus(-math::abs(x));
    return c * (math::max(-x, V(0)) + rest) - (math::max(x, V(0)) + rest);
  }
};

// -(y log x + (1 - y) log(1 - x)) with logarithms of at least -100, so that a sure and wrong x costs 100, not infinity;
// the derivative by x divides by at least 1e-12
struct ProbabilityCrossEntropy {
  static constexpr bool by_column = false;
  template <class V> static MOXIE_FN V bounded(V logarithm) { return logarithm < V(-100) ? V(-100) : logarithm; }
  template <class V> static MOXIE_FN V f(V x, V y, V) {
    return -(y * bounded(math::log(x)) + (V(1) - y) * bounded(math::log1p(-x)));
  }
  template <class V> static MOXIE_FN V dx(V x, V y, V) {
    const V spread = x * (V(1) - x);
    return (x - y) / (spread < V(1e-12) ? V(1e-12) : spread);
  }
  template <class V> static MOXIE_FN V dy(V x, V, V) { return bounded(math::log1p(-x)) - bounded(math::log(x)); }
};

// Calls f with c as a function of the place in a row: a table's entry where there is one.
template <class Loss, class V, class F> MOXIE_FN void with_constants(const V* table, V constant, F f) {
  if constexpr (Loss::by_column) {
    if (table != nullptr) return f([=](int64_t i) { return table[i]; });
  }
  f([=](int64_t) { return constant; });
}

// out = the loss of each element, or with `total` of each row of `chunk` elements. The table of constants, null for
// `constant` everywhere, has `chunk` entries.
template <class Loss, class T> struct PairLoss {
  using V = Accumulator<T>;
  const T* x;
  const T* y;
  const V* table;
  V constant;
  V* out;
  int64_t numel, chunk;
  bool total;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t first = row * chunk, n = numel - first < chunk ? numel - first : chunk;
    const T *a = x + first, *b = y + first;
    V *each = out + first, *sum = out + row;
    const bool add_up = total;
    with_constants<Loss>(table, constant, [=](auto c) {
      const auto loss = [=](int64_t i) { return Loss::f(V(a[i]), V(b[i]), c(i)); };
      if (add_up) {
        const V result = team.sum(n, loss);
        team.once([=] { *sum = result; });
      } else {
        team.each(n, [=](int64_t i) { each[i] = loss(i); });
      }
    });
  }
};

// out (+)= scale dloss f'(x, y, c), by x or by y; dloss is one number, or with `per_element` one for each element.
template <class Loss, bool by_y, class T> struct PairLossBackward {
  using V = Accumulator<T>;
  const T* x;
  const T* y;
  const V* table;
  V constant;
  const V* dloss;
  T* out;
  int64_t numel, chunk;
  V scale;
  bool per_element, accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t first = row * chunk, n = numel - first < chunk ? numel - first : chunk;
    const T *a = x + first, *b = y + first;
    const V* upstream = dloss;
    T* o = out + first;
    const V factor = scale;
    const bool one_each = per_element, add_to = accumulate;
    with_constants<Loss>(table, constant, [=](auto c) {
      branch(add_to, [=](auto add) {
        const auto slope = [=](int64_t i) {
          if constexpr (by_y)
            return Loss::dy(V(a[i]), V(b[i]), c(i));
          else
            return Loss::dx(V(a[i]), V(b[i]), c(i));
        };
        if (one_each) {
          const V* g = upstream + first;
          team.each(n, [=](int64_t i) { store(o[i], factor * g[i] * slope(i), add); });
        } else {
          const V g = factor * *upstream;
          team.each(n, [=](int64_t i) { store(o[i], g * slope(i), add); });
        }
      });
    });
  }
};

}  // namespace moxie
