// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/elementwise/binary.h"

#include "autograd/ops/elementwise.h"

namespace moxie {

Tensor add(const Tensor& x, const Tensor& y) { return binary<Add>("add", x, y); }
Tensor sub(const Tensor& x, const Tensor& y) { return binary<Sub>("sub", x, y); }
Tensor mul(const Tensor& x, const Tensor& y) { return binary<Mul>("mul", x, y); }
Tensor div(const Tensor& x, const Tensor& y) { return binary<Div>("div", x, y); }

}  // namespace moxie
