// SPDX-License-Identifier: Apache-2.0
// Questions about two operands, answered by 0 and 1.
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/broadcast.h"

namespace moxie {

// Every comparison with NaN is false, but for NotEqual.
struct Equal {
  template <class V> static MOXIE_FN bool f(V x, V y) { return x == y; }
};
struct NotEqual {
  template <class V> static MOXIE_FN bool f(V x, V y) { return x != y; }
};
struct Less {
  template <class V> static MOXIE_FN bool f(V x, V y) { return x < y; }
};
struct LessEqual {
  template <class V> static MOXIE_FN bool f(V x, V y) { return x <= y; }
};
struct Greater {
  template <class V> static MOXIE_FN bool f(V x, V y) { return x > y; }
};
struct GreaterEqual {
  template <class V> static MOXIE_FN bool f(V x, V y) { return x >= y; }
};
// What isn't 0 counts as true.
struct LogicalAnd {
  template <class V> static MOXIE_FN bool f(V x, V y) { return (x != V(0)) & (y != V(0)); }
};
struct LogicalOr {
  template <class V> static MOXIE_FN bool f(V x, V y) { return (x != V(0)) | (y != V(0)); }
};
struct LogicalXor {
  template <class V> static MOXIE_FN bool f(V x, V y) { return (x != V(0)) != (y != V(0)); }
};

// z = 1 where the answer about x and y is yes, otherwise 0
template <class Op, class T> struct Compare {
  const T* x;
  const T* y;
  uint8_t* z;
  BroadcastPlan<2> plan;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const auto place = plan.place(row);
    uint8_t* out = z + place.result;
    const int64_t n = place.count;
    with_readers(x + place.operand[0], plan.repeats(0), y + place.operand[1], plan.repeats(1), [=](auto a, auto b) {
      team.each(n, [=](int64_t i) { out[i] = static_cast<uint8_t>(Op::f(V(a(i)), V(b(i)))); });
    });
  }
};

}  // namespace moxie
