// SPDX-License-Identifier: Apache-2.0
// How an op of two float operands that broadcast is launched and recorded, given its arithmetic.
#pragma once
#include "core/kernels/elementwise/binary.h"

#include "autograd/ops/common.h"
#include "autograd/ops/elementwise/broadcast.h"
#include "autograd/ops/reduce/sum_to.h"

namespace moxie {

// out (+)= the part of Op(x, y). Operands of one shape need no plan.
template <class Op, BinaryPart part>
void launch_binary(const Array& x, const Array& y, const Array& dz, const Array& out, bool accumulate) {
  if (out.numel() == 0) return;
  dispatch_float("binary", x.dtype(), [&]<class T>(T) {
    const T* upstream = part == BinaryPart::value ? nullptr : dz.data<T>();
    if (x.shape() == y.shape()) {
      const Binary<Op, part, T> kernel{x.data<T>(), y.data<T>(), upstream, out.data<T>(), out.numel(), accumulate};
      return for_elements(out.device(), kernel, out.numel());
    }
    const BroadcastPlan<2> plan = plan_broadcast(std::array{x.shape(), y.shape()}, out.shape());
    const auto launch = [&]<class Out>(Out* result) {
      const BroadcastBinary<Op, part, T, Out> kernel{x.data<T>(), y.data<T>(), upstream, result, plan, accumulate};
      for_rows(out.device(), kernel, plan.rows(), plan.row_size());
    };
    if constexpr (part != BinaryPart::value)
      if (out.dtype() != x.dtype()) return launch(out.data<Accumulator<T>>());
    launch(out.data<T>());
  });
}

// Gradient of one operand: in place where it was not broadcast, otherwise summed over where it was.
template <class Op, BinaryPart part>
void operand_gradient(Grads& grads, size_t i, const Array& x, const Array& y, const Array& dz, const Shape& shape) {
  if (!grads.needs(i)) return;
  constexpr bool passes_through = std::is_same_v<Op, Add> || (std::is_same_v<Op, Sub> && part == BinaryPart::dx);
  if constexpr (passes_through) {
    grads.give(i, sum_to(dz, shape));
  } else if (shape == dz.shape()) {
    const Grads::Target target = grads.into(i);
    launch_binary<Op, part>(x, y, dz, target.array, target.accumulate);
  } else {
    const Array full = Array::empty(dz.shape(), {statistics_dtype(dz.dtype()), dz.device()});
    launch_binary<Op, part>(x, y, dz, full, false);
    grads.give(i, sum_to(full, shape));
  }
}

template <class Op> Tensor binary(const char* op, const Tensor& x, const Tensor& y) {
  const OpRange range(op);
  check_same_kind(op, x.value(), "x", y.value(), "y");
  check(is_float(x.dtype()), "{}: needs a float dtype (f64, f32 or bf16), got {}", op, name_of(x.dtype()));
  const Array z = Array::empty(broadcast_shape(op, x.shape(), "x", y.shape(), "y"), x.options());
  launch_binary<Op, BinaryPart::value>(x.value(), y.value(), {}, z, false);
  return record(op, z, {x, y}, [x = x.value(), y = y.value()](std::span<const Array> dz, Grads& grads) {
    operand_gradient<Op, BinaryPart::dx>(grads, 0, x, y, dz[0], x.shape());
    operand_gradient<Op, BinaryPart::dy>(grads, 1, x, y, dz[0], y.shape());
  });
}

}  // namespace moxie
