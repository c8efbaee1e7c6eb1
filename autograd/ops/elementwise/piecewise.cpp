// SPDX-License-Identifier: Apache-2.0
// Activations made of pieces
#include "autograd/ops/activation.h"
#include "autograd/ops/elementwise/unary.h"
#include "core/kernels/elementwise/activations.h"

namespace moxie {

Tensor relu(const Tensor& x) { return unary<Relu>("relu", x); }
Tensor relu6(const Tensor& x) { return unary<Relu6>("relu6", x); }
Tensor leaky_relu(const Tensor& x, double slope) { return unary<LeakyRelu>("leaky_relu", x, {slope}); }
Tensor elu(const Tensor& x, double alpha) { return unary<ScaledElu>("elu", x, {alpha}); }
Tensor celu(const Tensor& x, double alpha) {
  check(alpha > 0, "celu: alpha must be positive, got {}", alpha);
  return unary<ScaledElu>("celu", x, {alpha, 1, 1 / alpha});
}
Tensor selu(const Tensor& x) { return unary<ScaledElu>("selu", x, {1.67326324235437728482, 1.05070098735548049342}); }
Tensor hard_sigmoid(const Tensor& x, double slope, double shift) {
  return unary<HardSigmoid>("hard_sigmoid", x, {slope, shift});
}
Tensor hard_swish(const Tensor& x) { return unary<HardSwish>("hard_swish", x); }

}  // namespace moxie
