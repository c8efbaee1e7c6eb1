// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/activations.h"

#include "autograd/ops/activation.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/elementwise/unary.h"

namespace moxie {

Tensor tanh(const Tensor& x) { return unary<Tanh>("tanh", x); }
Tensor sigmoid(const Tensor& x) { return unary<Sigmoid>("sigmoid", x); }
Tensor log_sigmoid(const Tensor& x) { return unary<LogSigmoid>("log_sigmoid", x); }
Tensor silu(const Tensor& x) { return unary<Silu>("silu", x); }
Tensor swish(const Tensor& x, double beta) { return unary<Swish>("swish", x, {beta}); }
Tensor softplus(const Tensor& x) { return unary<Softplus>("softplus", x); }
Tensor mish(const Tensor& x) { return unary<Mish>("mish", x); }
Tensor softsign(const Tensor& x) { return unary<Softsign>("softsign", x); }

Tensor gelu(const Tensor& x, GeluForm form) {
  return form == GeluForm::tanh ? unary<GeluTanh>("gelu", x) : unary<Gelu>("gelu", x);
}

}  // namespace moxie
