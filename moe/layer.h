// SPDX-License-Identifier: Apache-2.0
// MoeLayer: router, dispatch, experts, combine, and the ERC loss that couples router and experts.
#pragma once
#include "moe/erc.h"
#include "moe/experts.h"
#include "moe/losses.h"
#include "moe/router.h"

namespace moxie::moe {

struct MoeOptions {
  RouterOptions router = {};
  int64_t hidden = 0;  // of each expert
  Activation activation = Activation::swiglu;
  bool erc = false;      // compute the ERC loss in training
  double erc_alpha = 1;  // smaller is stricter
};

struct MoeOutput {
  Tensor y;  // [tokens, width]
  Routing routing;
  Tensor erc;  // scalar; undefined where it wasn't computed
};

struct MoeLayer {
  MoeOptions options;
  Router router;
  Experts experts;

  // Throws std::invalid_argument for impossible options, or ERC with a router in a projected space.
  MoeLayer(int64_t width, const MoeOptions& wanted, nn::Initializer& init, double output_gain = 1);
  // x [tokens, width] through router and experts, and the ERC loss: route() and erc() in one.
  MoeOutput operator()(const Tensor& x, const nn::Context& context) const;
  // The same without the ERC loss, which no token has a part in: what runs again in the backward pass leaves it out.
  MoeOutput route(const Tensor& x, const nn::Context& context) const;
  // The ERC loss of the parameters, in their dtype; where the context computes in bf16, a GPU multiplies in TF32.
  // Undefined but in training, in the first micro-batch of an optimizer step: its cost and its weight don't grow with
  // accumulation. With `keep_products` its backward pass finds what it needs of up to 64 MB, else it makes that again.
  Tensor erc(const nn::Context& context, bool keep_products = true) const;
  // M [experts, experts] without noise: how strongly router row i excites expert j.
  Array coupling() const;
  static void visit(auto& self, auto&& f) { f("router", self.router), f("experts", self.experts); }
};

}  // namespace moxie::moe
