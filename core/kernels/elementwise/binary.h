// SPDX-License-Identifier: Apache-2.0
// z = f(x, y) for two operands of one shape, or broadcast like NumPy.
#pragma once
#include <type_traits>

#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/elementwise/rows.h"

namespace moxie {

// f(x, y) and the derivatives of f by x and by y.
struct Add {
  template <class V> static MOXIE_FN V f(V x, V y) { return x + y; }
  template <class V> static MOXIE_FN V dx(V, V) { return V(1); }
  template <class V> static MOXIE_FN V dy(V, V) { return V(1); }
};
struct Sub {
  template <class V> static MOXIE_FN V f(V x, V y) { return x - y; }
  template <class V> static MOXIE_FN V dx(V, V) { return V(1); }
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
      team.each(n, [=](int64_t i) {
        const V upstream = part == BinaryPart::value ? V(0) : V(g[i]);
        store(o[i], binary_part<Op, part>(V(a[i]), V(b[i]), upstream), add);
      });
    });
  }
};

// How two operands meet in a broadcast result: sizes outermost first, strides in elements, 0 where an operand repeats.
struct BroadcastPlan {
  static constexpr int max_rank = 8;
  int rank = 0;
  int64_t size[max_rank] = {};
  int64_t x_stride[max_rank] = {};
  int64_t y_stride[max_rank] = {};

  MOXIE_FN int64_t cols() const { return rank == 0 ? 1 : size[rank - 1]; }
  MOXIE_FN int64_t rows() const {
    int64_t total = 1;
    for (int i = 0; i + 1 < rank; ++i) total *= size[i];
    return total;
  }
  // Where row `row` of the result begins in x and in y.
  MOXIE_FN void offsets(int64_t row, int64_t& x, int64_t& y) const {
    x = y = 0;
    for (int i = rank - 2; i >= 0; --i) {
      const int64_t index = row % size[i];
      row /= size[i];
      x += index * x_stride[i];
      y += index * y_stride[i];
    }
  }
};

// The same for operands that broadcast; the result is contiguous, a row is its last dimension.
// Derivatives, which are summed afterwards, stay in the accumulator's type.
template <class Op, BinaryPart part, class T> struct BroadcastBinary {
  using Out = std::conditional_t<part == BinaryPart::value, T, Accumulator<T>>;
  const T* x;
  const T* y;
  const T* dz;
  Out* out;
  BroadcastPlan plan;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t cols = plan.cols();
    int64_t x_first, y_first;
    plan.offsets(row, x_first, y_first);
    const T *a = x + x_first, *b = y + y_first, *g = dz + (part == BinaryPart::value ? 0 : row * cols);
    Out* o = out + row * cols;
    const int64_t a_step = plan.rank == 0 ? 0 : plan.x_stride[plan.rank - 1];
    const int64_t b_step = plan.rank == 0 ? 0 : plan.y_stride[plan.rank - 1];
    const auto run = [=](auto a_at, auto b_at) {
      team.each(cols, [=](int64_t i) {
        const V upstream = part == BinaryPart::value ? V(0) : V(g[i]);
        o[i] = static_cast<Out>(binary_part<Op, part>(V(a_at(i)), V(b_at(i)), upstream));
      });
    };
    // Steps are 0 or 1; fixed ones let the compiler vectorise.
    if (a_step == 1 && b_step == 1)
      run([=](int64_t i) { return a[i]; }, [=](int64_t i) { return b[i]; });
    else if (a_step == 1)
      run([=](int64_t i) { return a[i]; }, [=](int64_t) { return b[0]; });
    else if (b_step == 1)
      run([=](int64_t) { return a[0]; }, [=](int64_t i) { return b[i]; });
    else
      run([=](int64_t) { return a[0]; }, [=](int64_t) { return b[0]; });
  }
};

}  // namespace moxie
