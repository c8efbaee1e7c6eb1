// SPDX-License-Identifier: Apache-2.0
// Activations, element by element, and the ones feed-forward networks are made of.
#pragma once
#include <string_view>

#include "autograd/tensor.h"

namespace moxie {

Tensor relu(const Tensor& x);  // gradient 0 at 0
Tensor gelu(const Tensor& x);  // exact: x times the normal distribution of x
Tensor silu(const Tensor& x);  // x sigmoid(x)
Tensor sigmoid(const Tensor& x);
Tensor softplus(const Tensor& x);  // log(1 + exp(x))

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
