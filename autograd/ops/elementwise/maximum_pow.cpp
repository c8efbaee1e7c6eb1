// SPDX-License-Identifier: Apache-2.0
// maximum, minimum and pow of two tensors
#include "autograd/ops/elementwise.h"
#include "autograd/ops/elementwise/binary.h"

namespace moxie {

Tensor maximum(const Tensor& x, const Tensor& y) { return binary<Maximum>("maximum", x, y); }
Tensor minimum(const Tensor& x, const Tensor& y) { return binary<Minimum>("minimum", x, y); }
Tensor pow(const Tensor& x, const Tensor& y) { return binary<Pow>("pow", x, y); }

}  // namespace moxie
