// SPDX-License-Identifier: Apache-2.0
// Activations, element by element, and the ones feed-forward networks are made of. tanh is in elementwise.h.
#pragma once
#include <string_view>

#include "autograd/tensor.h"

namespace moxie {

Tensor sigmoid(const Tensor& x);             // 1 / (1 + exp(-x))
Tensor log_sigmoid(const Tensor& x);         // log(sigmoid(x))
Tensor silu(const Tensor& x);                // x sigmoid(x)
Tensor swish(const Tensor& x, double beta);  // x sigmoid(beta x)
Tensor softplus(const Tensor& x);            // log(1 + exp(x))
Tensor mish(const Tensor& x);                // x tanh(softplus(x))
Tensor softsign(const Tensor& x);            // x / (1 + |x|)

// exact: x times the normal distribution of x; tanh: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
enum class GeluForm { exact, tanh };
Tensor gelu(const Tensor& x, GeluForm form = GeluForm::exact);

// Activations made of pieces; NaN stays NaN. Where two pieces meet the gradient is the one named.
Tensor relu(const Tensor& x);                             // max(x, 0); gradient 0 at 0
Tensor relu6(const Tensor& x);                            // min(max(x, 0), 6); gradient 0 at 0 and 6
Tensor leaky_relu(const Tensor& x, double slope = 0.01);  // x above 0, slope x below; gradient `slope` at 0
Tensor elu(const Tensor& x, double alpha = 1);            // x above 0, alpha (exp(x) - 1) below; gradient `alpha` at 0
// x above 0, alpha (exp(x / alpha) - 1) below; gradient 1 at 0. Throws where alpha is not positive.
Tensor celu(const Tensor& x, double alpha = 1);
// 1.0507 elu(x, 1.6733), the constants of "Self-normalizing neural networks" (Klambauer et al., 2017); gradient 1.7581
// at 0
Tensor selu(const Tensor& x);
// min(max(slope x + shift, 0), 1); gradient 0 at both ends
Tensor hard_sigmoid(const Tensor& x, double slope = 1.0 / 6, double shift = 0.5);
// x hard_sigmoid(x); gradient 0 at -3 and 1 at 3
Tensor hard_swish(const Tensor& x);

// How the hidden units of a feed-forward network are made from its first projection.
enum class Activation { swiglu, gelu, relu };
const char* name_of(Activation activation);
// Throws std::invalid_argument for a name other than swiglu, gelu, relu.
Activation activation_from_name(std::string_view name);
// Width of the first projection for `hidden` units: twice as many for swiglu, whose gate rows come first.
int64_t projection_width(Activation activation, int64_t hidden);
// swiglu: silu(gate) * up for x = [gate, up] [.., 2 hidden] -> [.., hidden]; gelu, relu: elementwise.
Tensor activate(const Tensor& x, Activation activation);

}  // namespace moxie
