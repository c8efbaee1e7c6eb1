// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/binary.h"

#include <algorithm>

#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce/sum_to.h"

namespace moxie {
namespace {

Shape broadcast_shape(const char* op, const Shape& x, const Shape& y) {
  Shape result = x.rank() >= y.rank() ? x : y;
  for (int64_t i = 1; i <= std::min(x.rank(), y.rank()); ++i) {
    const int64_t a = x[-i], b = y[-i];
    check(a == b || a == 1 || b == 1, "{}: shapes don't broadcast, x {} and y {} (dimension -{}: {} and {})", op, x, y,
          i, a, b);
    result = result.with(-i, a == 1 ? b : a);
  }
  return result;
}

// Strides of x and y over the dimensions of the result, neighbours merged where both allow it.
BroadcastPlan plan_broadcast(const Shape& x, const Shape& y, const Shape& result) {
  BroadcastPlan plan;
  int64_t x_step = 1, y_step = 1;
  int rank = 0;
  int64_t sizes[Shape::max_rank] = {}, x_strides[Shape::max_rank] = {}, y_strides[Shape::max_rank] = {};
  for (int64_t i = 1; i <= result.rank(); ++i) {  // innermost first
    const int64_t a = i <= x.rank() ? x[-i] : 1, b = i <= y.rank() ? y[-i] : 1;
    const int64_t size = result[-i], x_stride = a == 1 ? 0 : x_step, y_stride = b == 1 ? 0 : y_step;
    x_step *= a, y_step *= b;
    if (size == 1) continue;
    const auto follows = [&](int64_t outer, int64_t inner) { return outer == inner * sizes[rank - 1]; };
    if (rank > 0 && follows(x_stride, x_strides[rank - 1]) && follows(y_stride, y_strides[rank - 1])) {
      sizes[rank - 1] *= size;
      continue;
    }
    sizes[rank] = size, x_strides[rank] = x_stride, y_strides[rank] = y_stride;
    ++rank;
  }
  plan.rank = rank;
  for (int i = 0; i < rank; ++i) {
    plan.size[i] = sizes[rank - 1 - i];
    plan.x_stride[i] = x_strides[rank - 1 - i];
    plan.y_stride[i] = y_strides[rank - 1 - i];
  }
  return plan;
}

template <class Op, BinaryPart part>
void compute(const Array& x, const Array& y, const Array& dz, const Array& out, bool accumulate) {
  dispatch_float("binary", x.dtype(), [&]<class T>(T) {
    const T* upstream = part == BinaryPart::value ? nullptr : dz.data<T>();
    if (x.shape() == y.shape()) {
      const Binary<Op, part, T> kernel{x.data<T>(), y.data<T>(), upstream, out.data<T>(), out.numel(), accumulate};
      return for_elements(out.device(), kernel, out.numel());
    }
    if (out.numel() == 0) return;
    const BroadcastPlan plan = plan_broadcast(x.shape(), y.shape(), out.shape());
    using Kernel = BroadcastBinary<Op, part, T>;
    const Kernel kernel{x.data<T>(), y.data<T>(), upstream, out.data<typename Kernel::Out>(), plan};
    for_rows(out.device(), kernel, plan.rows(), plan.cols());
  });
}

// Gradient of one operand: in place where nothing was broadcast, otherwise summed over what was.
template <class Op, BinaryPart part>
void operand_gradient(Grads& grads, size_t i, const Array& x, const Array& y, const Array& dz, const Shape& shape) {
  if (!grads.needs(i)) return;
  constexpr bool passes_through = std::is_same_v<Op, Add> || (std::is_same_v<Op, Sub> && part == BinaryPart::dx);
  if constexpr (passes_through) return grads.give(i, sum_to(dz, shape));
  if (x.shape() == y.shape()) {
    const Grads::Target target = grads.into(i);
    return compute<Op, part>(x, y, dz, target.array, target.accumulate);
  }
  const Array full = Array::empty(dz.shape(), {statistics_dtype(dz.dtype()), dz.device()});
  compute<Op, part>(x, y, dz, full, false);
  grads.give(i, sum_to(full, shape));
}

template <class Op> Tensor binary(const char* op, const Tensor& x, const Tensor& y) {
  check_same_kind(op, x.value(), "x", y.value(), "y");
  check(is_float(x.dtype()), "{}: needs a float dtype (f64, f32 or bf16), got {}", op, name_of(x.dtype()));
  const Array z = Array::empty(broadcast_shape(op, x.shape(), y.shape()), x.options());
  compute<Op, BinaryPart::value>(x.value(), y.value(), {}, z, false);
  return record(op, z, {x, y}, [x = x.value(), y = y.value()](std::span<const Array> dz, Grads& grads) {
    operand_gradient<Op, BinaryPart::dx>(grads, 0, x, y, dz[0], x.shape());
    operand_gradient<Op, BinaryPart::dy>(grads, 1, x, y, dz[0], y.shape());
  });
}

}  // namespace

Tensor add(const Tensor& x, const Tensor& y) { return binary<Add>("add", x, y); }
Tensor sub(const Tensor& x, const Tensor& y) { return binary<Sub>("sub", x, y); }
Tensor mul(const Tensor& x, const Tensor& y) { return binary<Mul>("mul", x, y); }
Tensor div(const Tensor& x, const Tensor& y) { return binary<Div>("div", x, y); }

}  // namespace moxie
