// SPDX-License-Identifier: Apache-2.0
// y = f(x), element by element.
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/elementwise/rows.h"
#include "core/math.h"

namespace moxie {

// Each op gives f(x) and its derivative d(x, y), where y = f(x) is at hand if needs_y.
struct Neg {
  static constexpr bool needs_x = false, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return -x; }
  template <class V> static MOXIE_FN V d(V, V) { return V(-1); }
};
struct Exp {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::exp(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return y; }
};
struct Log {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::log(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / x; }
};
struct Sqrt {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::sqrt(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return V(0.5) / y; }
};
struct Tanh {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::tanh(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return V(1) - y * y; }
};
struct Relu {
  static constexpr bool needs_x = true, needs_y = false;
  // NaN stays NaN; the derivative at 0 is 0.
  template <class V> static MOXIE_FN V f(V x) { return x < V(0) ? V(0) : x; }
  template <class V> static MOXIE_FN V d(V x, V) { return x > V(0) ? V(1) : V(0); }
};
// 1 / (1 + exp(-x)); derivative y (1 - y)
struct Sigmoid {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::sigmoid(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return y * (V(1) - y); }
};
// x sigmoid(x); with s = sigmoid(x) the derivative is s (1 + x (1 - s))
struct Silu {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return x * math::sigmoid(x); }
  template <class V> static MOXIE_FN V d(V x, V) {
    const V s = math::sigmoid(x);
    return s * (V(1) + x * (V(1) - s));
  }
};
// log(1 + exp(x)); derivative sigmoid(x)
struct Softplus {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::softplus(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::sigmoid(x); }
};
// x Phi(x) with the normal distribution Phi(x); derivative Phi(x) + x phi(x) with its density phi
struct Gelu {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return x * math::normal(x).probability; }
  template <class V> static MOXIE_FN V d(V x, V) {
    const auto normal = math::normal(x);
    return normal.probability + x * normal.density;
  }
};

template <class Op, class T> struct Unary {
  const T* x;
  T* y;
  int64_t numel;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const T* in = x + row * elementwise_row;
    T* out = y + row * elementwise_row;
    team.each(elementwise_count(numel, row), [=](int64_t i) { out[i] = static_cast<T>(Op::f(V(in[i]))); });
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
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row * elementwise_row;
    const T *in = x + (Op::needs_x ? first : 0), *result = y + (Op::needs_y ? first : 0), *g = dy + first;
    T* out = dx + first;
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate, [=](auto add) {
      team.each(n, [=](int64_t i) {
        const V input = Op::needs_x ? V(in[i]) : V(0), output = Op::needs_y ? V(result[i]) : V(0);
        store(out[i], V(g[i]) * Op::d(input, output), add);
      });
    });
  }
};

}  // namespace moxie
