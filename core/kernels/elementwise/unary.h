// SPDX-License-Identifier: Apache-2.0
// y = f(x), element by element. Activations are in activations.h, trigonometric functions in trigonometric.h.
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/elementwise/rows.h"
#include "core/math_extended.h"

namespace moxie {

// Each op gives f(x) and its derivative d(x, y), where x is at hand if needs_x and y = f(x) if needs_y. An op with
// constants holds them.
struct Neg {
  static constexpr bool needs_x = false, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return -x; }
  template <class V> static MOXIE_FN V d(V, V) { return V(-1); }
};
// |x|; derivative 0 at 0
struct Abs {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::abs(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::sign(x); }
};
struct Square {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return x * x; }
  template <class V> static MOXIE_FN V d(V x, V) { return V(2) * x; }
};
struct Reciprocal {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return V(1) / x; }
  template <class V> static MOXIE_FN V d(V x, V) { return V(-1) / (x * x); }
};
struct Sqrt {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::sqrt(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return V(0.5) / y; }
};
// 1 / sqrt(x)
struct Rsqrt {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return V(1) / math::sqrt(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(-0.5) / (x * math::sqrt(x)); }
};
// x^exponent; derivative exponent x^(exponent - 1), 0 for exponent 0
struct PowerOf {
  static constexpr bool needs_x = true, needs_y = false;
  double exponent;
  template <class V> MOXIE_FN V f(V x) const { return math::pow(x, V(exponent)); }
  template <class V> MOXIE_FN V d(V x, V) const {
    return exponent == 0 ? V(0) : V(exponent) * math::pow(x, V(exponent - 1));
  }
};
struct Exp {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::exp(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return y; }
};
// exp(x) - 1
struct Expm1 {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::expm1(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::exp(x); }
};
struct Log {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::log(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / x; }
};
// log(1 + x)
struct Log1p {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::log1p(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / (V(1) + x); }
};
// The error function; derivative 2 / sqrt(pi) exp(-x^2)
struct Erf {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::erf(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1.12837916709551257390) * math::exp_nonpositive(-x * x); }
};
// min(max(x, low), high), NaN where x is; derivative 1 from low to high, both included
struct Clamp {
  static constexpr bool needs_x = true, needs_y = false;
  double low, high;
  template <class V> MOXIE_FN V f(V x) const {
    const V at_least = x < V(low) ? V(low) : x;
    return at_least > V(high) ? V(high) : at_least;
  }
  template <class V> MOXIE_FN V d(V x, V) const { return ((x >= V(low)) & (x <= V(high))) ? V(1) : V(0); }
};

// Steps, whose derivative is 0 everywhere.
struct Floor {
  template <class V> static MOXIE_FN V f(V x) { return math::floor(x); }
};
struct Ceil {
  template <class V> static MOXIE_FN V f(V x) { return math::ceil(x); }
};
struct Round {
  template <class V> static MOXIE_FN V f(V x) { return math::round_to_even(x); }
};
struct Sign {
  template <class V> static MOXIE_FN V f(V x) { return x != x ? x : math::sign(x); }
};

template <class Op, class T> struct Unary {
  const T* x;
  T* y;
  int64_t numel;
  Op op = {};
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T* in = x + row * elementwise_row;
    T* out = y + row * elementwise_row;
    const Op function = op;
    store_each(team, elementwise_count(numel, row), out, false, [=](int64_t i) { return function.f(V(in[i])); });
  }
};

// dx (+)= dy f'(x); x or y is null where the op doesn't need it.
template <class Op, class T> struct UnaryBackward {
  const T* x;
  const T* y;
  const T* dy;
  T* dx;
  int64_t numel;
  bool accumulate;
  Op op = {};
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row * elementwise_row;
    const T *in = x + (Op::needs_x ? first : 0), *result = y + (Op::needs_y ? first : 0), *g = dy + first;
    T* out = dx + first;
    const int64_t n = elementwise_count(numel, row);
    const Op function = op;
    branch(accumulate, [=](auto add) {
      store_each(team, n, out, add, [=](int64_t i) {
        const V input = Op::needs_x ? V(in[i]) : V(0), output = Op::needs_y ? V(result[i]) : V(0);
        return V(g[i]) * function.d(input, output);
      });
    });
  }
};

}  // namespace moxie
