// SPDX-License-Identifier: Apache-2.0
// Activations y = f(x), element by element, for the kernels in unary.h.
#pragma once
#include "core/kernels/elementwise/unary.h"

namespace moxie {

struct Tanh {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::tanh(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return V(1) - y * y; }
};
// 1 / (1 + exp(-x)); derivative y (1 - y)
struct Sigmoid {
  static constexpr bool needs_x = false, needs_y = true;
  template <class V> static MOXIE_FN V f(V x) { return math::sigmoid(x); }
  template <class V> static MOXIE_FN V d(V, V y) { return y * (V(1) - y); }
};
// log(sigmoid(x)); derivative sigmoid(-x)
struct LogSigmoid {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return -math::softplus(-x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::sigmoid(-x); }
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
// x sigmoid(beta x); with s = sigmoid(beta x) the derivative is s (1 + beta x (1 - s))
struct Swish {
  static constexpr bool needs_x = true, needs_y = false;
  double beta;
  template <class V> MOXIE_FN V f(V x) const { return x * math::sigmoid(V(beta) * x); }
  template <class V> MOXIE_FN V d(V x, V) const {
    const V z = V(beta) * x, s = math::sigmoid(z);
    return s * (V(1) + z * (V(1) - s));
  }
};
// log(1 + exp(x)); derivative sigmoid(x)
struct Softplus {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::softplus(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::sigmoid(x); }
};
// x t with t = tanh(softplus(x)); derivative t + x sigmoid(x) (1 - t^2)
struct Mish {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return x * math::tanh(math::softplus(x)); }
  template <class V> static MOXIE_FN V d(V x, V) {
    const V t = math::tanh(math::softplus(x));
    return t + x * math::sigmoid(x) * (V(1) - t * t);
  }
};
// x / (1 + |x|); derivative 1 / (1 + |x|)^2
struct Softsign {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return x / (V(1) + math::abs(x)); }
  template <class V> static MOXIE_FN V d(V x, V) {
    const V r = V(1) / (V(1) + math::abs(x));
    return r * r;
  }
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
// x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), which is x s with s = sigmoid(2 u);
// derivative s + x s (1 - s) 2 u'
struct GeluTanh {
  static constexpr bool needs_x = true, needs_y = false;
  static constexpr double twice_sqrt_2_pi = 1.59576912160573071176, cubic = 0.044715;
  template <class V> static MOXIE_FN V f(V x) {
    return x * math::sigmoid(V(twice_sqrt_2_pi) * x * (V(1) + V(cubic) * x * x));
  }
  template <class V> static MOXIE_FN V d(V x, V) {
    const V squared = x * x;
    const V s = math::sigmoid(V(twice_sqrt_2_pi) * x * (V(1) + V(cubic) * squared));
    const V slope = V(twice_sqrt_2_pi) * (V(1) + V(3 * cubic) * squared);
    const V bend = x * (s * (V(1) - s)) * slope;
    return math::abs(x) > V(100) ? s : s + bend;  // where s is 0 or 1 the slope may be infinite
  }
};

// Piecewise ones; NaN stays NaN.

// max(x, 0); derivative 0 at 0
struct Relu {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return x < V(0) ? V(0) : x; }
  template <class V> static MOXIE_FN V d(V x, V) { return x > V(0) ? V(1) : V(0); }
};
// min(max(x, 0), 6); derivative 0 at 0 and at 6
struct Relu6 {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) {
    const V positive = x < V(0) ? V(0) : x;
    return positive > V(6) ? V(6) : positive;
  }
  template <class V> static MOXIE_FN V d(V x, V) { return ((x > V(0)) & (x < V(6))) ? V(1) : V(0); }
};
// x above 0, slope x up to 0; derivative slope at 0
struct LeakyRelu {
  static constexpr bool needs_x = true, needs_y = false;
  double slope;
  template <class V> MOXIE_FN V f(V x) const { return x > V(0) ? x : V(slope) * x; }
  template <class V> MOXIE_FN V d(V x, V) const { return x > V(0) ? V(1) : V(slope); }
};
// scale x above 0, scale alpha (exp(rate x) - 1) up to 0; derivative at 0 from below
struct ScaledElu {
  static constexpr bool needs_x = true, needs_y = false;
  double alpha, scale = 1, rate = 1;
  template <class V> MOXIE_FN V f(V x) const {
    const V below = V(scale * alpha) * math::expm1(x > V(0) ? V(0) : V(rate) * x);
    return x > V(0) ? V(scale) * x : below;
  }
  template <class V> MOXIE_FN V d(V x, V) const {
    const V below = V(scale * alpha * rate) * math::exp_nonpositive(x > V(0) ? V(0) : V(rate) * x);
    return x > V(0) ? V(scale) : below;
  }
};
// min(max(slope x + shift, 0), 1); derivative 0 where that is 0 or 1
struct HardSigmoid {
  static constexpr bool needs_x = true, needs_y = false;
  double slope, shift;
  template <class V> MOXIE_FN V f(V x) const {
    const V line = V(slope) * x + V(shift), positive = line < V(0) ? V(0) : line;
    return positive > V(1) ? V(1) : positive;
  }
  template <class V> MOXIE_FN V d(V x, V) const {
    const V line = V(slope) * x + V(shift);
    return ((line > V(0)) & (line < V(1))) ? V(slope) : V(0);
  }
};
// x min(max(x / 6 + 1 / 2, 0), 1); derivative 0 up to -3, 1 from 3 on
struct HardSwish {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) {
    const V line = x + V(3), positive = line < V(0) ? V(0) : line;
    return x * ((positive > V(6) ? V(6) : positive) / V(6));
  }
  template <class V> static MOXIE_FN V d(V x, V) {
    const V inside = x * V(1.0 / 3) + V(0.5);
    return x <= V(-3) ? V(0) : x >= V(3) ? V(1) : inside;
  }
};

}  // namespace moxie
