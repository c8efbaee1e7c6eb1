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
// The larger and the smaller, element by element, NaN where either is NaN. At a tie each gets half of the gradient;
// next to NaN both get all of it.
Tensor maximum(const Tensor& x, const Tensor& y);
Tensor minimum(const Tensor& x, const Tensor& y);
// x^y: 1 for y = 0 and for x = 1, NaN for x < 0 and y not an integer, inf for x = 0 and y < 0. The gradient of x is 0
// for y = 0, and infinite for x = 0 and 0 < y < 1; that of y is 0 for x = 0 and y >= 0, NaN for x < 0.
Tensor pow(const Tensor& x, const Tensor& y);
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
Tensor abs(const Tensor& x);         // gradient 0 at 0
Tensor square(const Tensor& x);      // x^2
Tensor reciprocal(const Tensor& x);  // 1 / x
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);  // 1 / sqrt(x)
Tensor exp(const Tensor& x);
Tensor expm1(const Tensor& x);  // exp(x) - 1, accurate near 0
Tensor log(const Tensor& x);
Tensor log1p(const Tensor& x);  // log(1 + x), accurate near 0
Tensor erf(const Tensor& x);    // the error function
// x^exponent, with the values and gradients of pow above.
Tensor pow(const Tensor& x, double exponent);
// min(max(x, low), high), NaN where x is NaN. The gradient passes from low to high, both included. Throws where low is
// above high; infinities leave a side open.
Tensor clamp(const Tensor& x, double low, double high);
// Steps, whose gradient is 0 everywhere: the largest integer not above x, the smallest not below x, the nearest (the
// even one of two), and -1, 0 or 1. NaN stays NaN.
Tensor floor(const Tensor& x);
Tensor ceil(const Tensor& x);
Tensor round(const Tensor& x);
Tensor sign(const Tensor& x);
// Trigonometric functions, in radians, and hyperbolic ones.
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tan(const Tensor& x);
Tensor asin(const Tensor& x);
Tensor acos(const Tensor& x);
Tensor atan(const Tensor& x);
Tensor sinh(const Tensor& x);
Tensor cosh(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor asinh(const Tensor& x);
Tensor acosh(const Tensor& x);
Tensor atanh(const Tensor& x);
// x where the condition (u8; not 0 counts as true) holds, elsewhere y, of any dtype; all three broadcast.
Tensor where(const Array& condition, const Tensor& x, const Tensor& y);
// x with `value` where the mask (u8), which broadcasts to x's shape, isn't 0; the gradient is 0 there.
Tensor masked_fill(const Tensor& x, const Array& mask, double value);

// Comparisons: u8 arrays of 0 and 1, without gradient. Operands broadcast and share a dtype, which may be any; a number
// is rounded to x's dtype where that is a float. Every comparison with NaN is 0, but for not_equal.
Array equal(const Tensor& x, const Tensor& y);
Array equal(const Tensor& x, double y);
Array not_equal(const Tensor& x, const Tensor& y);
Array not_equal(const Tensor& x, double y);
Array less(const Tensor& x, const Tensor& y);
Array less(const Tensor& x, double y);
Array less_equal(const Tensor& x, const Tensor& y);
Array less_equal(const Tensor& x, double y);
Array greater(const Tensor& x, const Tensor& y);
Array greater(const Tensor& x, double y);
Array greater_equal(const Tensor& x, const Tensor& y);
Array greater_equal(const Tensor& x, double y);
// Of u8 arrays, which broadcast; what isn't 0 counts as true, and the result is 0 or 1.
Array logical_and(const Array& x, const Array& y);
Array logical_or(const Array& x, const Array& y);
Array logical_xor(const Array& x, const Array& y);
Array logical_not(const Array& x);

// x in another float dtype; the gradient is converted back.
Tensor cast(const Tensor& x, Dtype dtype);

}  // namespace moxie
