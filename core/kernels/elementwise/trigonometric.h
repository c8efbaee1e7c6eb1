// SPDX-License-Identifier: Apache-2.0
// Trigonometric and hyperbolic functions, element by element, for the kernels in unary.h.
#pragma once
#include "core/kernels/elementwise/unary.h"

namespace moxie {

struct Sin {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::sin(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::cos(x); }
};
struct Cos {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::cos(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return -math::sin(x); }
};
// derivative 1 + tan(x)^2
struct Tan {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::tan(x); }
  template <class V> static MOXIE_FN V d(V x, V) {
    const V tangent = math::tan(x);
    return V(1) + tangent * tangent;
  }
};
// derivative 1 / sqrt(1 - x^2)
struct Asin {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::asin(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / math::sqrt((V(1) - x) * (V(1) + x)); }
};
struct Acos {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::acos(x); }
  template <class V> static MOXIE_FN V d(V x, V y) { return -Asin::d(x, y); }
};
// derivative 1 / (1 + x^2)
struct Atan {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::atan(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / (V(1) + x * x); }
};
struct Sinh {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::sinh(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::cosh(x); }
};
struct Cosh {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::cosh(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return math::sinh(x); }
};
// derivative 1 / sqrt(x^2 + 1)
struct Asinh {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::asinh(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / math::sqrt(x * x + V(1)); }
};
// derivative 1 / sqrt(x^2 - 1)
struct Acosh {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::acosh(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / (math::sqrt(x - V(1)) * math::sqrt(x + V(1))); }
};
// derivative 1 / (1 - x^2)
struct Atanh {
  static constexpr bool needs_x = true, needs_y = false;
  template <class V> static MOXIE_FN V f(V x) { return math::atanh(x); }
  template <class V> static MOXIE_FN V d(V x, V) { return V(1) / ((V(1) - x) * (V(1) + x)); }
};

}  // namespace moxie
