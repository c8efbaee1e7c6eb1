// SPDX-License-Identifier: Apache-2.0
#include "moe/layer.h"

namespace moxie::moe {

MoeLayer::MoeLayer(int64_t width, const MoeOptions& wanted, nn::Initializer& init, double output_gain)
    : options(wanted),
      router(width, wanted.router, init),
      experts(wanted.router.experts, width, wanted.hidden, wanted.activation, init, output_gain) {
  check(
      !options.erc || options.router.projection == 0,
      "MoeLayer: the ERC loss needs router rows of the model's width, the router works in a projected space of {}; set "
      "projection to 0 or erc to false",
      options.router.projection);
  check(options.erc_alpha >= 0, "MoeLayer: erc_alpha must not be negative, got {}", options.erc_alpha);
}

Tensor MoeLayer::erc(const nn::Context& context, bool keep_products) const {
  if (!options.erc || !context.training || context.micro_batch != 0) return {};
  const Dtype dtype = router.weight.value().dtype();
  const Array delta = erc_noise(router.weight.value(), context.key(nn::Purpose::erc_proxy, false));
  return erc_loss(router.weight.as(dtype), experts.gate_up.as(dtype), experts.hidden, delta, options.erc_alpha,
                  {.keep = keep_products, .tf32 = context.dtype == Dtype::bf16});
}

MoeOutput MoeLayer::operator()(const Tensor& x, const nn::Context& context) const {
  // ERC first: its backward then runs after the experts', and adds to their gradient in place.
  Tensor coupling_loss = erc(context);
  MoeOutput output = route(x, context);
  output.erc = std::move(coupling_loss);
  return output;
}

MoeOutput MoeLayer::route(const Tensor& x, const nn::Context& context) const {
  const NoiseOptions& noise = options.router.noise;
  const bool jitters = context.training && noise.kind == NoiseKind::jitter_shared;
  const Tensor input = jitters ? bounded_noise(x, noise.scale, router_noise_key(context)) : x;
  const Routing routing = router(input, context);
  return {experts.combined(input, routing, context), routing, {}};
}

Array MoeLayer::coupling() const {
  check(options.router.projection == 0, "coupling: M is not defined for a router in a projected space of {}",
        options.router.projection);
  return erc_matrix(router.weight.value(), experts.gate_up.value(), experts.hidden);
}

}  // namespace moxie::moe
