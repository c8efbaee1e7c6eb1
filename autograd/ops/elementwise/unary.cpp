// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/unary.h"

#include "autograd/ops/activation.h"
#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "core/kernels/elementwise/affine.h"

namespace moxie {
namespace {

template <class Op> Tensor unary(const char* op, const Tensor& x) {
  const Array y = Array::empty(x.shape(), x.options());
  dispatch_float(op, x.dtype(), [&]<class T>(T) {
    for_elements(x.device(), Unary<Op, T>{x.value().data<T>(), y.data<T>(), y.numel()}, y.numel());
  });
  const Array saved_x = Op::needs_x ? x.value() : Array(), saved_y = Op::needs_y ? y : Array();
  return record(op, y, {x}, [saved_x, saved_y](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", dy[0].dtype(), [&]<class T>(T) {
      const UnaryBackward<Op, T> kernel{Op::needs_x ? saved_x.data<T>() : nullptr,
                                        Op::needs_y ? saved_y.data<T>() : nullptr,
                                        dy[0].data<T>(),
                                        dx.data<T>(),
                                        dy[0].numel(),
                                        dx.accumulate};
      for_elements(dy[0].device(), kernel, dy[0].numel());
    });
  });
}

}  // namespace

Tensor neg(const Tensor& x) { return unary<Neg>("neg", x); }
Tensor exp(const Tensor& x) { return unary<Exp>("exp", x); }
Tensor log(const Tensor& x) { return unary<Log>("log", x); }
Tensor sqrt(const Tensor& x) { return unary<Sqrt>("sqrt", x); }
Tensor tanh(const Tensor& x) { return unary<Tanh>("tanh", x); }
Tensor relu(const Tensor& x) { return unary<Relu>("relu", x); }
Tensor gelu(const Tensor& x) { return unary<Gelu>("gelu", x); }
Tensor silu(const Tensor& x) { return unary<Silu>("silu", x); }
Tensor sigmoid(const Tensor& x) { return unary<Sigmoid>("sigmoid", x); }
Tensor softplus(const Tensor& x) { return unary<Softplus>("softplus", x); }

Tensor affine(const Tensor& x, double scale, double shift) {
  const Array y = Array::empty(x.shape(), x.options());
  const auto launch = [](const Array& from, const Array& into, double factor, double offset, bool accumulate) {
    dispatch_float("affine", from.dtype(), [&]<class T>(T) {
      using V = Accumulator<T>;
      const Affine<T> kernel{from.data<T>(), into.data<T>(), V(factor), V(offset), from.numel(), accumulate};
      for_elements(from.device(), kernel, from.numel());
    });
  };
  launch(x.value(), y, scale, shift, false);
  return record("affine", y, {x}, [=](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    launch(dy[0], dx.array, scale, 0, dx.accumulate);
  });
}

Tensor cast(const Tensor& x, Dtype dtype) {
  check(is_float(x.dtype()) && is_float(dtype),
        "cast: needs float dtypes, got {} to {}; an Array converts with .to(dtype)", name_of(x.dtype()),
        name_of(dtype));
  if (x.dtype() == dtype) return x;
  return record("cast", x.value().to(dtype), {x},
                [from = x.dtype()](std::span<const Array> dy, Grads& grads) { grads.give(0, dy[0].to(from)); });
}

}  // namespace moxie
