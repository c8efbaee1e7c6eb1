// SPDX-License-Identifier: Apache-2.0
// The MoE layer against every expert computed densely in PyTorch: tests/fixtures/layers.py made the numbers.
#include "moe/layer.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

TEST_CASE("MoE layers as dense PyTorch: output and every gradient, SwiGLU, GELU and ReLU") {
  const Fixture fixture("layers.safetensors");
  struct Case {
    std::string name;
    Activation activation;
    int64_t top_k;
    Weighting weighting;
  };
  for (const Case& c : {Case{"moe_swiglu_top2", Activation::swiglu, 2, Weighting::after_top_k},
                        Case{"moe_gelu_top2", Activation::gelu, 2, Weighting::after_top_k},
                        Case{"moe_relu_top2", Activation::relu, 2, Weighting::after_top_k},
                        Case{"moe_swiglu_top1", Activation::swiglu, 1, Weighting::before_top_k}}) {
    for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
      CAPTURE(c.name);
      CAPTURE(name_of(dtype));
      const double tolerance = dtype == Dtype::f64 ? 1e-10 : 1e-5;
      const auto stored = [&](const std::string& what) { return fixture[c.name + "." + what]; };
      nn::Initializer init(1);
      MoeLayer layer(
          8,
          {.router =
               {.kind = RouterKind::linear, .experts = 4, .top_k = c.top_k, .weighting = c.weighting, .bias = false},
           .hidden = 6,
           .activation = c.activation},
          init);
      nn::to(layer, dtype);
      std::vector<nn::NamedParameter> all = nn::parameters(layer);
      CHECK(all.size() == fixture.count(c.name + ".weight."));
      for (nn::NamedParameter& named : all) named.parameter.set_value(stored("weight." + named.name).to(dtype));
      const Tensor x = leaf(stored("x").to(dtype));
      const Tensor y = layer(x, {.dtype = dtype}).y;
      CHECK(difference(y.value(), stored("y")) < tolerance);
      y.backward(stored("dy").to(dtype));
      CHECK(difference(x.grad(), stored("dx")) < tolerance);
      for (const nn::NamedParameter& named : all) {
        CAPTURE(named.name);
        CHECK(difference(named.parameter.grad(), stored("grad." + named.name)) < tolerance);
      }
    }
  }
}

}  // namespace
}  // namespace moxie::moe
