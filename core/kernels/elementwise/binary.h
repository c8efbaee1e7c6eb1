// SPDX-License-Identifier: Apache-2.0
// z = f(x, y) for two operands of one shape, or broadcast like NumPy.
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/elementwise/broadcast.h"
#include "core/kernels/elementwise/rows.h"
#include "core/math_extended.h"

namespace moxie {

// f(x, y) and the derivatives of f by x and by y, where they are not 1.
struct Add {
  template <class V> static MOXIE_FN V f(V x, V y) { return x + y; }
};
struct Sub {
  template <class V> static MOXIE_FN V f(V x, V y) { return x - y; }
  template <class V> static MOXIE_FN V dy(V, V) { return V(-1); }
};
struct Mul {
  template <class V> static MOXIE_FN V f(V x, V y) { return x * y; }
  template <class V> static MOXIE_FN V dx(V, V y) { return y; }
  template <class V> static MOXIE_FN V dy(V x, V) { return x; }
};
struct Div {
  template <class V> static MOXIE_FN V f(V x, V y) { return x / y; }
  template <class V> static MOXIE_FN V dx(V, V y) { return V(1) / y; }
  template <class V> static MOXIE_FN V dy(V x, V y) { return -x / (y * y); }
};
// The larger and the smaller of two numbers, NaN where one is NaN. At a tie each operand gets half of the gradient;
// next to NaN both get all of it.
struct Maximum {
  template <class V> static MOXIE_FN V f(V x, V y) { return ((x > y) | (x != x)) ? x : y; }
  template <class V> static MOXIE_FN V dx(V x, V y) { return x < y ? V(0) : x == y ? V(0.5) : V(1); }
  template <class V> static MOXIE_FN V dy(V x, V y) { return dx(y, x); }
};
struct Minimum {
  template <class V> static MOXIE_FN V f(V x, V y) { return ((x < y) | (x != x)) ? x : y; }
  template <class V> static MOXIE_FN V dx(V x, V y) { return x > y ? V(0) : x == y ? V(0.5) : V(1); }
  template <class V> static MOXIE_FN V dy(V x, V y) { return dx(y, x); }
};
// x^y; by x: y x^(y - 1), 0 for y = 0; by y: x^y log(x), 0 for x = 0 and y >= 0
struct Pow {
  template <class V> static MOXIE_FN V f(V x, V y) { return math::pow(x, y); }
  template <class V> static MOXIE_FN V dx(V x, V y) { return y == V(0) ? V(0) : y * math::pow(x, y - V(1)); }
  template <class V> static MOXIE_FN V dy(V x, V y) {
    return x == V(0) && y >= V(0) ? V(0) : math::pow(x, y) * math::log(x);
  }
};

// What a binary kernel computes: the result, or the product of its gradient dz with a derivative.
enum class BinaryPart { value, dx, dy };

template <class Op, BinaryPart part, class V> MOXIE_FN V binary_part(V x, V y, V dz) {
  if constexpr (part == BinaryPart::value)
    return Op::f(x, y);
  else if constexpr (part == BinaryPart::dx)
    return dz * Op::dx(x, y);
  else
    return dz * Op::dy(x, y);
}

// Operands and result of one shape. dz is read only for the derivatives.
template <class Op, BinaryPart part, class T> struct Binary {
  const T* x;
  const T* y;
  const T* dz;
  T* out;
  int64_t numel;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row * elementwise_row;
    const T *a = x + first, *b = y + first, *g = dz + (part == BinaryPart::value ? 0 : first);
    T* o = out + first;
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate, [=](auto add) {
      store_each(team, n, o, add, [=](int64_t i) {
        const V upstream = part == BinaryPart::value ? V(0) : V(g[i]);
        return binary_part<Op, part>(V(a[i]), V(b[i]), upstream);
      });
    });
  }
};

// The same for operands that broadcast. A derivative is either a whole operand's gradient, or is summed afterwards and
// then stays in the accumulator's type.
template <class Op, BinaryPart part, class T, class Out = T> struct BroadcastBinary {
  const T* x;
  const T* y;
  const T* dz;
  Out* out;
  BroadcastPlan<2> plan;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const auto place = plan.place(row);
    const T* g = dz + (part == BinaryPart::value ? 0 : place.result);
    Out* o = out + place.result;
    const int64_t n = place.count;
    const bool add_up = accumulate;
    with_readers(x + place.operand[0], plan.repeats(0), y + place.operand[1], plan.repeats(1), [=](auto a, auto b) {
      if constexpr (part == BinaryPart::value)
        store_each(team, n, o, false, [=](int64_t i) { return Op::f(V(a(i)), V(b(i))); });
      else
        branch(add_up, [=](auto add) {
          store_each(team, n, o, add, [=](int64_t i) { return binary_part<Op, part>(V(a(i)), V(b(i)), V(g[i])); });
        });
    });
  }
};

}  // namespace moxie
