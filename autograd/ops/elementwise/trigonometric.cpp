// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/trigonometric.h"

#include "autograd/ops/elementwise.h"
#include "autograd/ops/elementwise/unary.h"

namespace moxie {

Tensor sin(const Tensor& x) { return unary<Sin>("sin", x); }
Tensor cos(const Tensor& x) { return unary<Cos>("cos", x); }
Tensor tan(const Tensor& x) { return unary<Tan>("tan", x); }
Tensor asin(const Tensor& x) { return unary<Asin>("asin", x); }
Tensor acos(const Tensor& x) { return unary<Acos>("acos", x); }
Tensor atan(const Tensor& x) { return unary<Atan>("atan", x); }
Tensor sinh(const Tensor& x) { return unary<Sinh>("sinh", x); }
Tensor cosh(const Tensor& x) { return unary<Cosh>("cosh", x); }
Tensor asinh(const Tensor& x) { return unary<Asinh>("asinh", x); }
Tensor acosh(const Tensor& x) { return unary<Acosh>("acosh", x); }
Tensor atanh(const Tensor& x) { return unary<Atanh>("atanh", x); }

}  // namespace moxie
