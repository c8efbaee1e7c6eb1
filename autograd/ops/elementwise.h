// SPDX-License-Identifier: Apache-2.0
// Arithmetic, element by element; two operands broadcast like NumPy's.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

Tensor add(const Tensor& x, const Tensor& y);
Tensor sub(const Tensor& x, const Tensor& y);
Tensor mul(const Tensor& x, const Tensor& y);
Tensor div(const Tensor& x, const Tensor& y);
inline Tensor operator+(const Tensor& x, const Tensor& y) { return add(x, y); }
inline Tensor operator-(const Tensor& x, const Tensor& y) { return sub(x, y); }
inline Tensor operator*(const Tensor& x, const Tensor& y) { return mul(x, y); }
inline Tensor operator/(const Tensor& x, const Tensor& y) { return div(x, y); }
// scale * x + shift
Tensor affine(const Tensor& x, double scale, double shift);
inline Tensor operator*(double scale, const Tensor& x) { return affine(x, scale, 0); }
inline Tensor operator*(const Tensor& x, double scale) { return affine(x, scale, 0); }
inline Tensor operator/(const Tensor& x, double divisor) { return affine(x, 1 / divisor, 0); }
inline Tensor operator+(const Tensor& x, double shift) { return affine(x, 1, shift); }
inline Tensor operator+(double shift, const Tensor& x) { return affine(x, 1, shift); }
inline Tensor operator-(const Tensor& x, double shift) { return affine(x, 1, -shift); }
inline Tensor operator-(double shift, const Tensor& x) { return affine(x, -1, shift); }

Tensor neg(const Tensor& x);
inline Tensor operator-(const Tensor& x) { return neg(x); }
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor tanh(const Tensor& x);
// x in another float dtype; the gradient is converted back.
Tensor cast(const Tensor& x, Dtype dtype);

}  // namespace moxie
