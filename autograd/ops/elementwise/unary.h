// SPDX-License-Identifier: Apache-2.0
// How an op of one float operand is launched and recorded, given its arithmetic.
#pragma once
#include "core/kernels/elementwise/unary.h"

#include "autograd/ops/common.h"

namespace moxie {

template <class Op> Array unary_value(const char* op, const Array& x, const Op& function) {
  const Array y = Array::empty(x.shape(), x.options());
  dispatch_float(op, x.dtype(), [&]<class T>(T) {
    for_elements(x.device(), Unary<Op, T>{x.data<T>(), y.data<T>(), y.numel(), function}, y.numel());
  });
  return y;
}

template <class Op> Tensor unary(const char* op, const Tensor& x, const Op& function = {}) {
  const OpRange range(op);
  const Array y = unary_value(op, x.value(), function);
  const Array saved_x = Op::needs_x ? x.value() : Array(), saved_y = Op::needs_y ? y : Array();
  return record(op, y, {x}, [saved_x, saved_y, function](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", dy[0].dtype(), [&]<class T>(T) {
      const UnaryBackward<Op, T> kernel{Op::needs_x ? saved_x.data<T>() : nullptr,
                                        Op::needs_y ? saved_y.data<T>() : nullptr,
                                        dy[0].data<T>(),
                                        dx.data<T>(),
                                        dy[0].numel(),
                                        dx.accumulate,
                                        function};
      for_elements(dy[0].device(), kernel, dy[0].numel());
    });
  });
}

// Of an op that is a step: the gradient is 0, whatever dy.
template <class Op> Tensor step(const char* op, const Tensor& x) {
  const OpRange range(op);
  return record(op, unary_value(op, x.value(), Op{}), {x}, [](std::span<const Array>, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    if (!dx.accumulate) dx.array.fill(0);
  });
}

}  // namespace moxie
