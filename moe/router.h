// SPDX-License-Identifier: Apache-2.0
// Routers: score every expert for every token, choose the top k by score, and weigh the chosen by softmax.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "moe/noise.h"
#include "moe/routing.h"
#include "nn/layers.h"

namespace moxie::moe {

enum class RouterKind {
  linear,            // z = scale x.r
  cosine,            // z = scale x.r / (|x| |r|), arXiv 2405.14131 Eq. 2
  perturbed_cosine,  // z = scale x.r / ((|x| + tau_token) (|r| + tau_expert)), Eq. 9
};
const char* name_of(RouterKind kind);
RouterKind router_kind_from_name(std::string_view name);

// Where the softmax that makes the weights stands.
enum class Weighting {
  after_top_k,               // softmax over the chosen: the papers' TopK, Mixtral's value
  before_top_k,              // softmax over all experts, the chosen keep their share (OLMoE; the ERC paper)
  before_top_k_renormalized  // the same, divided by the sum of the chosen (Qwen3-MoE): equal to after_top_k
};
const char* name_of(Weighting weighting);
Weighting weighting_from_name(std::string_view name);

struct RouterOptions {
  RouterKind kind = RouterKind::perturbed_cosine;
  int64_t experts = 8;
  int64_t top_k = 2;
  Weighting weighting = Weighting::after_top_k;
  double tau_expert = 0.1;  // tau_1, added to |r|; perturbed_cosine only
  double tau_token = 0.1;   // tau_2, added to |x|; perturbed_cosine only
  double scale = 1;         // factor of the score; 1 / temperature
  bool bias = true;         // beta_0 [experts], added after the selection; never seen by selection, balance or z-loss
  int64_t projection = 0;   // X-MoE, Tutel: score in a space of this width instead of the model's; 0: off
  bool projection_bias = false;      // as in Tutel
  bool learned_temperature = false;  // Tutel: scale = exp(min(log_scale, log 100)), log_scale learned from log 2
  NoiseOptions noise = {};           // in training; never seen by balance and z-loss where it is added to the scores
};

// "perturbed_cosine, top 2 of 8, softmax after_top_k, scale 1, tau_expert 0.1, tau_token 0.1, .., no noise": named in
// every run.
std::string describe(const RouterOptions& options);

struct Router {
  RouterOptions options;
  nn::Parameter weight;               // [experts, width], or [experts, projection]
  std::optional<nn::Parameter> bias;  // beta_0 [experts], starts at 0
  std::optional<nn::Linear> projection;
  std::optional<nn::Parameter> log_scale;     // [1]
  std::optional<nn::Parameter> noise_weight;  // W_noise of learned noise, like weight; starts at 0

  // Throws std::invalid_argument for top_k outside [1, experts], a negative tau, an impossible scale of noise, or
  // options that exclude each other.
  Router(int64_t width, const RouterOptions& wanted, nn::Initializer& init);
  // x [tokens, width] in any float dtype; scores and weights are f32 (f64 for f64) from end to end. In training noise
  // acts as options.noise says, but for jitter_shared: the layer applies that to what router and experts get.
  Routing operator()(const Tensor& x, const nn::Context& context) const;
  // The scores z [tokens, experts] alone, before noise is added to them.
  Tensor scores(const Tensor& x, const nn::Context& context) const;
  static void visit(auto& self, auto&& f) {
    f("weight", self.weight), f("bias", self.bias), f("projection", self.projection), f("log_scale", self.log_scale);
    f("noise_weight", self.noise_weight);
  }

 private:
  Tensor input(const Tensor& x, const nn::Context& context) const;
  Tensor scores_of(const Tensor& input, const nn::Context& context) const;
  struct Noisy {
    Tensor scores, deviation;
  };
  Noisy noisy(const Tensor& z, const Tensor& input, const nn::Context& context) const;
};

// From scores z [tokens, experts] and an optional bias [experts]: the top k are chosen by z alone, ties go to the
// lowest expert; the bias is added to the chosen (before_top_k: to all) before the softmax. arXiv 2405.14131, TopK.
// `noisy`, where defined, takes the place of z in selection and, unless selection_only, in the weights; the routing's
// `scores` are z, which balance and z-loss see.
Routing route(const Tensor& scores, const Tensor& bias, int64_t top_k, Weighting weighting, const Tensor& noisy = {},
              bool selection_only = false);

}  // namespace moxie::moe
