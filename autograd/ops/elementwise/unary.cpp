// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/elementwise/unary.h"

#include "autograd/ops/elementwise.h"
#include "core/kernels/elementwise/affine.h"

namespace moxie {

Tensor neg(const Tensor& x) { return unary<Neg>("neg", x); }
Tensor abs(const Tensor& x) { return unary<Abs>("abs", x); }
Tensor square(const Tensor& x) { return unary<Square>("square", x); }
Tensor reciprocal(const Tensor& x) { return unary<Reciprocal>("reciprocal", x); }
Tensor sqrt(const Tensor& x) { return unary<Sqrt>("sqrt", x); }
Tensor rsqrt(const Tensor& x) { return unary<Rsqrt>("rsqrt", x); }
Tensor exp(const Tensor& x) { return unary<Exp>("exp", x); }
Tensor expm1(const Tensor& x) { return unary<Expm1>("expm1", x); }
Tensor log(const Tensor& x) { return unary<Log>("log", x); }
Tensor log1p(const Tensor& x) { return unary<Log1p>("log1p", x); }
Tensor erf(const Tensor& x) { return unary<Erf>("erf", x); }

Tensor pow(const Tensor& x, double exponent) {
  if (exponent == 2) return unary<Square>("pow", x);
  return unary<PowerOf>("pow", x, {exponent});
}

Tensor clamp(const Tensor& x, double low, double high) {
  check(low <= high, "clamp: low must not be above high, got low = {}, high = {}", low, high);
  return unary<Clamp>("clamp", x, {low, high});
}

Tensor floor(const Tensor& x) { return step<Floor>("floor", x); }
Tensor ceil(const Tensor& x) { return step<Ceil>("ceil", x); }
Tensor round(const Tensor& x) { return step<Round>("round", x); }
Tensor sign(const Tensor& x) { return step<Sign>("sign", x); }

Tensor affine(const Tensor& x, double scale, double shift) {
  const OpRange range("affine");
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
  const OpRange range("cast");
  check(is_float(x.dtype()) && is_float(dtype),
        "cast: needs float dtypes, got {} to {}; an Array converts with .to(dtype)", name_of(x.dtype()),
        name_of(dtype));
  if (x.dtype() == dtype) return x;
  return record("cast", x.value().to(dtype), {x},
                [from = x.dtype()](std::span<const Array> dy, Grads& grads) { grads.give(0, dy[0].to(from)); });
}

}  // namespace moxie
