// SPDX-License-Identifier: Apache-2.0
// What every check in moe/ says.
#include "moe/cosine_scores.h"
#include "moe/language_model_config.h"
#include "moe/metrics.h"
#include "moe/sample_window.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

struct Case {
  std::function<void()> call;
  std::string fragment;
};

void check_messages(const std::vector<Case>& cases) {
  for (const Case& item : cases) {
    INFO(item.fragment);
    const std::string message = message_of(item.call);
    INFO("said: ", message);
    CHECK(message.find(item.fragment) != std::string::npos);
  }
}

Array f32(const Shape& shape) { return random(shape, 1, 1, Dtype::f32); }
Tensor t32(const Shape& shape) { return Tensor(f32(shape)); }

TEST_CASE("errors of the ERC loss") {
  const auto loss = [](const Array& router, const Array& gate, int64_t hidden, const Array& delta = {},
                       double alpha = 1) {
    return [=] { erc_loss(Tensor(router), Tensor(gate), hidden, delta, alpha); };
  };
  check_messages({
      {loss(f32({4}), f32({4, 3, 2}), 3),
       "erc: router must be [experts, width] and gate [experts, rows, width], got [4] and [4, 3, 2]"},
      {loss(f32({4, 2}), f32({4, 3}), 3), "got [4, 2] and [4, 3]"},
      {loss(f32({4, 2}), f32({4, 3, 8}), 3), "ERC is not defined for a router in a projected space"},
      {loss(f32({4, 2}), f32({5, 3, 2}), 3), "router and gate must have as many experts, got [4, 2] and [5, 3, 2]"},
      {loss(f32({4, 2}), f32({4, 3, 2}), 4), "hidden must be between 1 and gate's rows, got 4 for gate [4, 3, 2]"},
      {loss(f32({4, 2}), f32({4, 3, 2}), 0), "hidden must be between 1 and gate's rows, got 0"},
      {loss(f32({4, 2}), random({4, 3, 2}, 1), 3), "must both be f32 or both f64 on one device, got f32 and f64"},
      {loss(f32({4, 2}).to(Dtype::bf16), f32({4, 3, 2}).to(Dtype::bf16), 3), "must both be f32 or both f64"},
      {loss(f32({4, 2}), f32({4, 3, 2}), 3, f32({4, 3})), "delta must be like the router [4, 2] f32, got [4, 3] f32"},
      {loss(f32({4, 2}), f32({4, 3, 2}), 3, random({4, 2}, 1)),
       "delta must be like the router [4, 2] f32, got [4, 2] f64"},
      {loss(f32({4, 2}), f32({4, 3, 2}), 3, {}, -0.1), "erc_loss: alpha must not be negative, got -0.1"},
      {loss(f32({4, 2}), f32({4, 3, 2}), 3, {}, NAN), "erc_loss: alpha must not be negative, got nan"},
      {[] {
         erc_matrix(f32({4, 2}), f32({4, 3, 8}), 3);
       },
       "projected space"},
      {[] { erc_bound(f32({4})); }, "erc_bound: router must be [experts, width], got [4]"},
      {[] {
         erc_bound(f32({4, 2}).to(Dtype::bf16));
       },
       "erc_bound: router must be f32 or f64, got bf16"},
      {[] {
         erc_violations(f32({4, 2}), 1);
       },
       "erc_violations: the matrix must be square, got [4, 2]"},
  });
}

TEST_CASE("errors of routers and routings") {
  const auto router = [](const RouterOptions& options, int64_t width = 4) {
    return [=] {
      nn::Initializer init(1);
      Router(width, options, init);
    };
  };
  const auto routing = [](const Shape& scores, const Shape& weights, const std::vector<int32_t>& chosen,
                          int64_t experts) {
    return [=] {
      make_routing(t32(scores), t32(weights), integers(chosen, {static_cast<int64_t>(chosen.size()) / 2, 2}), experts);
    };
  };
  check_messages({
      {router({.experts = 8, .top_k = 9}), "Router: top_k must be between 1 and experts, got top_k = 9, experts = 8"},
      {router({.experts = 8, .top_k = 0}), "got top_k = 0, experts = 8"},
      {router({.experts = 0}), "Router: experts must be at least 1, got 0"},
      {router({}, 0), "Router: width must be positive, got 0"},
      {router({.tau_expert = -0.1}), "Router: tau must not be negative, got tau_expert = -0.1, tau_token = 0.1"},
      {router({.tau_token = -1}), "tau_token = -1"},
      {router({.scale = 0}), "Router: scale must be positive, got 0"},
      {router({.projection = -1}), "Router: projection must not be negative, got -1"},
      {router({.projection_bias = true}), "Router: projection_bias needs a projection"},
      {router({.kind = RouterKind::linear, .learned_temperature = true}),
       "Router: learned_temperature is for cosine routers"},
      {router({.scale = 2, .learned_temperature = true}),
       "Router: learned_temperature takes the place of scale, which must stay 1, got 2"},
      {[] {
         nn::Initializer init(1);
         Router(4, {}, init)(t32({3}), {});
       },
       "Router: x must be [tokens, width], got [3]"},
      {[] { router_kind_from_name("cosin"); }, "router: must be one of linear, cosine, perturbed_cosine, got 'cosin'"},
      {[] { weighting_from_name("top_k"); },
       "weighting: must be one of after_top_k, before_top_k, before_top_k_renormalized, got 'top_k'"},
      {[] {
         cosine_scores(t32({3, 4}), t32({5, 3}), 0, 0);
       },
       "cosine_scores: x must be [tokens, width] and weight [experts, width], got [3, 4] and [5, 3]"},
      {[] {
         cosine_scores(cast(t32({3, 4}), Dtype::bf16), t32({5, 4}), 0, 0);
       },
       "cosine_scores: x and weight must both be f32 or both f64 on one device, got bf16 on cpu and f32 on cpu; cast x "
       "first"},
      {[] {
         cosine_scores(t32({3, 4}), t32({5, 4}), -1, 0);
       },
       "cosine_scores: tau must not be negative, got tau_expert = -1, tau_token = 0"},
      {[] { route(t32({3}), {}, 1, Weighting::after_top_k); }, "route: scores must be [tokens, experts], got [3]"},
      {[] {
         route(t32({3, 4}), {}, 5, Weighting::after_top_k);
       },
       "route: top_k must be between 1 and experts, got top_k = 5, experts = 4"},
      {[] {
         route(t32({3, 4}), t32({3}), 2, Weighting::before_top_k);
       },
       "route: bias must be [experts = 4], got [3]"},
      {routing({2, 4}, {2, 3}, {0, 1, 2, 3}, 4),
       "make_routing: chosen and weights must both be [tokens, top_k], got [2, 2] and [2, 3]"},
      {routing({2, 5}, {2, 2}, {0, 1, 2, 3}, 4), "make_routing: scores must be [tokens, experts] = [2, 4], got [2, 5]"},
      {routing({2, 4}, {2, 2}, {0, 1, 2, 4}, 4), "make_routing"},
      {routing({2, 4}, {2, 2}, {0, -1, 2, 3}, 4), "make_routing"},
      {[] {
         dispatch(t32({3, 4}), route(t32({2, 4}), {}, 2, Weighting::after_top_k));
       },
       "dispatch: x must be [tokens = 2, width], got [3, 4]"},
      {[] {
         combine(t32({3, 4}), route(t32({2, 4}), {}, 2, Weighting::after_top_k));
       },
       "combine: rows must be [tokens * top_k = 4, width], got [3, 4]"},
  });
}

TEST_CASE("errors of noise") {
  const auto noise = [](const NoiseOptions& options) {
    return [=] {
      nn::Initializer init(1);
      Router(4, {.noise = options}, init);
    };
  };
  const TokenKey at;
  check_messages({
      {noise({.scale = 0.1}), "noise: scale 0.1 belongs to a kind, but the kind is none; set noise.kind"},
      {noise({.selection_only = true}), "noise: scale 0 on the selection only belongs to a kind, but the kind is none"},
      {noise({.kind = NoiseKind::gaussian}),
       "noise: the scale of gaussian must be positive, got 0; 1 / experts is usual"},
      {noise({.kind = NoiseKind::gumbel, .scale = -1}), "the scale of gumbel must be positive, got -1; 1 is usual"},
      {noise({.kind = NoiseKind::jitter, .scale = NAN}),
       "the scale of jitter must be positive, got nan; 0.01 is usual"},
      {noise({.kind = NoiseKind::learned, .scale = INFINITY}), "the scale of learned must be positive, got inf"},
      {noise({.kind = NoiseKind::jitter_shared, .scale = 1.5}),
       "noise: the scale of jitter_shared is a bound of at most 1, got 1.5"},
      {noise({.kind = NoiseKind::learned, .scale = 1, .selection_only = true}),
       "noise: selection_only is for gaussian, gumbel and multiplicative, the kind is learned"},
      {noise({.kind = NoiseKind::jitter, .scale = 0.1, .selection_only = true}), "the kind is jitter"},
      {[] { noise_kind_from_name("jiter"); },
       "noise: must be one of none, jitter, jitter_shared, gaussian, gumbel, learned, multiplicative, got 'jiter'"},
      {[] { router_noise_key({.training = true, .micro_batch = 2}); },
       "set context.first_token to the number of tokens before micro-batch 2"},
      {[&] { bounded_noise(t32({3}), 0.1, at); }, "bounded_noise: needs [tokens, columns], got [3]"},
      {[&] {
         gaussian_noise(t32({3, 4}), 0.1, {at.key, -1});
       },
       "gaussian_noise: first_token must not be negative, got -1"},
      {[&] {
         gumbel_noise(cast(t32({3, 4}), Dtype::bf16), 0.1, at);
       },
       "gumbel_noise: scores must be f32 or f64, got bf16"},
      {[&] {
         learned_noise(t32({3, 4}), t32({3, 5}), 0.1, at);
       },
       "learned_noise: raw must have the scores' shape [3, 4], got [3, 5]"},
      {[&] {
         learned_noise(t32({3, 4}), cast(t32({3, 4}), Dtype::f64), 0.1, at);
       },
       "learned_noise: scores is f32 and raw is f64"},
      {[] {
         route(t32({3, 4}), {}, 2, Weighting::after_top_k, t32({3, 5}));
       },
       "route: noisy must have the scores' shape [3, 4], got [3, 5]"},
      {[] {
         const Routing clean = route(t32({3, 4}), {}, 2, Weighting::after_top_k);
         load_loss(std::span(&clean, 1));
       },
       "load_loss: needs the deviation of normal noise on the scores; use gaussian or learned noise, in training"},
      {[] {
         smooth_load(t32({3, 4}), t32({3, 4}), t32({3, 5}), 2);
       },
       "smooth_load: scores, noisy and deviation must be [tokens, experts], got [3, 4], [3, 4] and [3, 5]"},
      {[] {
         smooth_load(t32({3, 4}), t32({3, 4}), cast(t32({3, 4}), Dtype::f64), 2);
       },
       "must all be f32 or all f64 on one device, got f32, f32 and f64"},
      {[] {
         smooth_load(t32({3, 4}), t32({3, 4}), t32({3, 4}), 4);
       },
       "smooth_load: top_k must be at least 1 and below experts, got top_k = 4, experts = 4"},
      {[] {
         smooth_load(t32({0, 4}), t32({0, 4}), t32({0, 4}), 2);
       },
       "smooth_load: there are no tokens"},
  });
}

TEST_CASE("errors of the layer, the losses and the metrics") {
  const auto layer = [](const MoeOptions& options) {
    return [=] {
      nn::Initializer init(1);
      MoeLayer(4, options, init);
    };
  };
  const auto with = [](const Shape& scores, int64_t top_k) {
    return route(t32(scores), {}, top_k, Weighting::after_top_k);
  };
  check_messages({
      {layer({.router = {.projection = 2}, .hidden = 3, .erc = true}),
       "MoeLayer: the ERC loss needs router rows of the model's width, the router works in a projected space of 2"},
      {layer({.hidden = 3, .erc_alpha = -1}), "MoeLayer: erc_alpha must not be negative, got -1"},
      {layer({}), "Experts: experts, width and hidden must be positive, got 8, 4, 0"},
      {[] {
         nn::Initializer init(1);
         coupling_metrics(MoeLayer(4, {.router = {.projection = 2}, .hidden = 3}, init), 1);
       },
       "coupling: M is not defined for a router in a projected space of 2"},
      {[&] {
         balance_loss(std::vector<Routing>{with({3, 4}, 2), with({3, 5}, 2)});
       },
       "balance_loss: layers must agree in tokens, experts and top_k, got [3, 4] top 2 and [3, 5] top 2"},
      {[&] {
         balance_loss(std::vector<Routing>{with({3, 4}, 2), with({3, 4}, 1)});
       },
       "got [3, 4] top 2 and [3, 4] top 1"},
      {[] { balance_from_name("gshard"); }, "balance: must be switch or hf, got 'gshard'"},
      {[] {
         weighted_share(t32({3, 4}), f32({3}));
       },
       "weighted_share: scores must be [tokens, experts] and load [experts]"},
      {[] {
         weighted_share(cast(t32({3, 4}), Dtype::bf16), f32({4}).to(Dtype::bf16));
       },
       "weighted_share: scores must be f32 or f64, got bf16"},
  });
}

TEST_CASE("errors of the language model and of sampling") {
  LanguageModelOptions options{.vocabulary = 9, .layers = 2, .width = 8, .heads = 2};
  options.moe = {.router = {.experts = 4, .top_k = 2}, .hidden = 4};
  const auto model = [options](auto change) {
    return [=] {
      LanguageModelOptions changed = options;
      change(changed);
      LanguageModel(changed, 1);
    };
  };
  const LanguageModel whole(options, 1);
  const auto tokens = [](const std::vector<int32_t>& values) {
    return integers(values, {1, static_cast<int64_t>(values.size())});
  };
  const std::vector<int32_t> none, prompt{1}, unknown{9};
  const std::vector<float> logits{1, 2}, broken{1, NAN}, infinite{1, INFINITY};
  const auto drawing = [&](const SampleOptions& wanted) { return [&, wanted] { draw_token(logits, wanted, 0.5); }; };
  check_messages({
      {model([](auto& o) { o.vocabulary = 0; }),
       "LanguageModel: vocabulary, layers and width must be positive, got 0, 2, 8"},
      {model([](auto& o) { o.dense_layers = 3; }),
       "LanguageModel: dense_layers must be between 0 and layers, got 3 of 2"},
      {model([](auto& o) { o.balance_weight = -1; }),
       "LanguageModel: loss weights must not be negative, got balance_weight = -1, z_weight = 0, load_weight = 0"},
      {model([](auto& o) { o.z_weight = -2; }), "z_weight = -2"},
      {model([](auto& o) { o.load_weight = -2; }), "load_weight = -2"},
      {model([](auto& o) { o.load_weight = 0.1; }),
       "LanguageModel: load_weight needs gaussian or learned noise in the router, the kind is none"},
      {model([](auto& o) { o.norm_epsilon = -1; }), "LanguageModel: norm_epsilon must not be negative, got -1"},
      {model([](auto& o) { o.clip_qkv = -1; }), "Attention: clip_qkv must not be negative, got -1"},
      {[] { nn::qk_norm_from_name("both"); }, "qk_norm: must be none, per_head or whole, got 'both'"},
      {model([](auto& o) { o.moe.router.top_k = 5; }),
       "Router: top_k must be between 1 and experts, got top_k = 5, experts = 4"},
      {model([](auto& o) { o.moe.hidden = 0; }), "must be positive"},
      {model([](auto& o) { o.heads = 3; }), "heads"},
      {[&] {
         whole(integers({1, 2}, {2}), {});
       },
       "LanguageModel: tokens must be [batch, time], got [2]"},
      {[&] {
         std::vector<nn::KeyValueCache> caches(1);
         whole(tokens({1, 2}), {}, &caches);
       },
       "LanguageModel: needs one cache per block, got 1 for 2"},
      {[&] {
         whole(tokens({1, 9}), {});
       },
       "embedding"},
      {[&] {
         whole.losses(tokens({1, 2}), tokens({1, 9}), {});
       },
       "cross_entropy"},
      {[&] {
         whole.losses(tokens({1, 2}), tokens({1}), {});
       },
       "cross_entropy"},
      {[&] {
         whole.losses(tokens({1, 2}), tokens({1, 2}), {}).total(options, 0);
       },
       "Losses: micro_batches must be at least 1, got 0"},
      {[&] { sample(whole, none, {}); }, "sample: the prompt is empty; give it at least one token"},
      {[&] { sample(whole, unknown, {}); }, "embedding"},
      {[&] { sample(whole, prompt, {.tokens = -1}); },
       "sample: tokens, temperature and top_k must not be negative and top_p in (0, 1], got -1"},
      {[&] { sample_window(whole, prompt, {}, 0); }, "sample: context must be at least 1, got 0"},
      {[] { language_model_options_from_json("{\"layer\": 3}"); }, "layer"},
      {[] { language_model_options_from_json("{\"layers\": \"3\"}"); }, "layers"},
      {[] { language_model_options_from_json("{\"layers\": 3"); }, "language model options"},
      {[] { language_model_options_from_json("{\"moe.activation\": \"tanh\"}"); }, "tanh"},
      {[] { restore_language_model({}); }, "model"},
      {drawing({.temperature = -1}), "must not be negative"},
      {drawing({.temperature = NAN}), "must not be negative"},
      {drawing({.top_k = -1}), "must not be negative"},
      {drawing({.top_p = 0}), "top_p in (0, 1]"},
      {drawing({.top_p = 1.5}), "top_p in (0, 1]"},
      {[&] { draw_token({}, {}, 0.5); }, "draw_token: there are no logits"},
      {[&] { draw_token(broken, {}, 0.5); }, "draw_token: logit 1 of 2 is nan; the model has diverged"},
      {[&] { draw_token(infinite, {}, 0.5); }, "draw_token: logit 1 of 2 is inf"},
  });
}

}  // namespace
}  // namespace moxie::moe
