// SPDX-License-Identifier: Apache-2.0
// Layers one after the other, and a layer beside which its input passes on. Layers are modules, called with (x,
// context) or (x), or plain functions of a tensor, such as relu.
#pragma once
#include <concepts>
#include <tuple>
#include <utility>

#include "autograd/ops/elementwise.h"
#include "nn/context.h"
#include "nn/module.h"

namespace moxie::nn {

namespace detail {

// A module has visit; a function has no parameters to name.
struct AnyMember {
  template <class Member> void operator()(const char*, Member&) const {}
};
template <class Layer>
concept Visitable = requires(Layer& layer, AnyMember f) {
  Layer::visit(layer, f);
};

template <class Layer> Tensor call(const Layer& layer, const Tensor& x, const Context& context) {
  if constexpr (std::invocable<const Layer&, const Tensor&, const Context&>)
    return layer(x, context);
  else
    return layer(x);
}

}  // namespace detail

// y = last(.. second(first(x))). The layers' parameters are named by their numbers: "0.weight", "2.weight". Write
//   nn::Sequential net{nn::Linear(8, 32, init), relu, nn::Linear(32, 1, init)};
// with braces, so that the layers draw their initial values in this order; parentheses leave the order to the compiler.
template <class... Layers> struct Sequential {
  std::tuple<Layers...> layers;

  explicit(sizeof...(Layers) == 1) Sequential(Layers... all) : layers(std::move(all)...) {}
  Tensor operator()(const Tensor& x, const Context& context) const {
    return std::apply(
        [&](const Layers&... each) {
          Tensor y = x;
          ((y = detail::call(each, y, context)), ...);
          return y;
        },
        layers);
  }
  static void visit(auto& self, auto&& f) {
    [&]<size_t... I>(std::index_sequence<I...>) { (visit_one(std::to_string(I), std::get<I>(self.layers), f), ...); }
    (std::index_sequence_for<Layers...>());
  }

 private:
  template <class Layer> static void visit_one(const std::string& name, Layer& layer, auto& f) {
    if constexpr (detail::Visitable<std::remove_const_t<Layer>>) f(name.c_str(), layer);
  }
};

// y = x + layer(x); the parameters have the layer's own names.
template <class Layer> struct Residual {
  Layer layer;

  Tensor operator()(const Tensor& x, const Context& context) const { return x + detail::call(layer, x, context); }
  static void visit(auto& self, auto&& f) {
    if constexpr (detail::Visitable<Layer>) Layer::visit(self.layer, f);
  }
};
template <class Layer> Residual(Layer) -> Residual<Layer>;

}  // namespace moxie::nn
