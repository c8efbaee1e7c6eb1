// SPDX-License-Identifier: Apache-2.0
#include "moe/router.h"

#include <cmath>

#include "autograd/ops.h"
#include "moe/choose.h"
#include "moe/cosine_scores.h"

namespace moxie::moe {
namespace {

constexpr double largest_scale = 100;  // Tutel's bound on the learned temperature
constexpr double first_scale = 2;

void check_options(const RouterOptions& options) {
  check(options.experts >= 1, "Router: experts must be at least 1, got {}", options.experts);
  check(options.top_k >= 1 && options.top_k <= options.experts,
        "Router: top_k must be between 1 and experts, got top_k = {}, experts = {}", options.top_k, options.experts);
  check(options.tau_expert >= 0 && options.tau_token >= 0,
        "Router: tau must not be negative, got tau_expert = {}, tau_token = {}", options.tau_expert, options.tau_token);
  check(options.scale > 0, "Router: scale must be positive, got {}", options.scale);
  check(options.projection >= 0, "Router: projection must not be negative, got {}", options.projection);
  check(options.kind != RouterKind::linear || !options.learned_temperature,
        "Router: learned_temperature is for cosine routers, the kind is linear");
  check(!options.learned_temperature || options.scale == 1,
        "Router: learned_temperature takes the place of scale, which must stay 1, got {}", options.scale);
  check(!options.projection_bias || options.projection > 0,
        "Router: projection_bias needs a projection; set projection to its width");
  check_noise(options.noise);
}

// exp(min(log_scale, log largest)), [1]
Tensor learned_scale(const Tensor& log_scale) {
  const double top = std::log(largest_scale);
  return exp(top - relu(top - log_scale));
}

CosineOptions cosine_options(const RouterOptions& options) {
  const bool perturbed = options.kind == RouterKind::perturbed_cosine;
  return {perturbed ? options.tau_expert : 0, perturbed ? options.tau_token : 0, options.scale};
}

template <class Kind> Kind from_name(const char* what, std::string_view name, std::initializer_list<Kind> kinds) {
  std::string known;
  for (const Kind kind : kinds) {
    if (name == name_of(kind)) return kind;
    known += (known.empty() ? "" : ", ") + std::string(name_of(kind));
  }
  throw_invalid_argument(fmt::format("{}: must be one of {}, got '{}'", what, known, name));
}

}  // namespace

const char* name_of(RouterKind kind) {
  switch (kind) {
    case RouterKind::linear: return "linear";
    case RouterKind::cosine: return "cosine";
    case RouterKind::perturbed_cosine: return "perturbed_cosine";
  }
  return "?";
}

const char* name_of(Weighting weighting) {
  switch (weighting) {
    case Weighting::after_top_k: return "after_top_k";
    case Weighting::before_top_k: return "before_top_k";
    case Weighting::before_top_k_renormalized: return "before_top_k_renormalized";
  }
  return "?";
}

RouterKind router_kind_from_name(std::string_view name) {
  return from_name("router", name, {RouterKind::linear, RouterKind::cosine, RouterKind::perturbed_cosine});
}

Weighting weighting_from_name(std::string_view name) {
  return from_name("weighting", name,
                   {Weighting::after_top_k, Weighting::before_top_k, Weighting::before_top_k_renormalized});
}

std::string describe(const RouterOptions& options) {
  std::string text = fmt::format("{}, top {} of {}, softmax {}, scale {}", name_of(options.kind), options.top_k,
                                 options.experts, name_of(options.weighting),
                                 options.learned_temperature ? "learned" : fmt::format("{:g}", options.scale));
  if (options.kind == RouterKind::perturbed_cosine)
    text += fmt::format(", tau_expert {:g}, tau_token {:g}", options.tau_expert, options.tau_token);
  text += options.bias ? ", bias after selection" : ", no bias";
  if (options.projection > 0)
    text += fmt::format(", projection {}{}", options.projection, options.projection_bias ? " with bias" : "");
  const NoiseOptions& noise = options.noise;
  if (noise.kind == NoiseKind::none)
    text += ", no noise";
  else
    text += fmt::format(", noise {} {:g}{}", name_of(noise.kind), noise.scale,
                        noise.selection_only ? " on the selection only" : "");
  return text;
}

Router::Router(int64_t width, const RouterOptions& wanted, nn::Initializer& init) : options(wanted) {
  check(width >= 1, "Router: width must be positive, got {}", width);
  check_options(options);
  const int64_t space = options.projection > 0 ? options.projection : width;
  weight = nn::Parameter(init.normal({options.experts, space}, 1 / std::sqrt(static_cast<double>(space))));
  if (options.bias) bias = nn::Parameter(init.constant({options.experts}, 0), {.decay = false});
  if (options.projection > 0) projection.emplace(width, space, init, options.projection_bias);
  if (options.learned_temperature)
    log_scale = nn::Parameter(init.constant({1}, std::log(first_scale)), {.decay = false});
  if (options.noise.kind == NoiseKind::learned)
    noise_weight = nn::Parameter(init.constant({options.experts, space}, 0));
}

// What scores are made from, in the statistics' dtype: x, jittered and projected where that is wanted.
Tensor Router::input(const Tensor& x, const nn::Context& context) const {
  check(x.shape().rank() == 2, "Router: x must be [tokens, width], got {}", x.shape());
  nn::Context precise = context;
  precise.dtype = statistics_dtype(context.dtype);
  Tensor y = cast(x, precise.dtype);
  if (context.training && options.noise.kind == NoiseKind::jitter)
    y = bounded_noise(y, options.noise.scale, router_noise_key(context));
  return projection ? (*projection)(y, precise) : y;
}

Tensor Router::scores(const Tensor& x, const nn::Context& context) const {
  return scores_of(input(x, context), context);
}

Tensor Router::scores_of(const Tensor& input, const nn::Context& context) const {
  const Dtype dtype = statistics_dtype(context.dtype);
  const Tensor rows = weight.as(dtype);
  if (options.kind == RouterKind::linear) {
    const Tensor z = linear(input, rows);
    return options.scale == 1 ? z : z * options.scale;
  }
  const CosineOptions cosine = cosine_options(options);  // with learned_temperature, scale is 1
  const Tensor z = cosine_scores(input, rows, cosine.tau_expert, cosine.tau_token, cosine.scale);
  return log_scale ? z * learned_scale(log_scale->as(dtype)) : z;
}

// The scores with noise and its deviation; undefined where there is none.
Router::Noisy Router::noisy(const Tensor& z, const Tensor& input, const nn::Context& context) const {
  if (!context.training || !is_on_scores(options.noise.kind)) return {};
  const TokenKey at = router_noise_key(context);
  const double scale = options.noise.scale;
  switch (options.noise.kind) {
    case NoiseKind::gaussian: return {gaussian_noise(z, scale, at), Tensor::full(z.shape(), scale, z.options())};
    case NoiseKind::gumbel: return {gumbel_noise(z, scale, at), {}};
    case NoiseKind::multiplicative: return {bounded_noise(z, scale, at), {}};
    default: break;
  }
  const Tensor raw = linear(input, noise_weight->as(z.dtype()));
  return {learned_noise(z, raw, scale, at), softplus(raw) * scale};
}

Routing Router::operator()(const Tensor& x, const nn::Context& context) const {
  const Tensor beta = bias ? bias->as(statistics_dtype(context.dtype)) : Tensor();
  const Tensor in = input(x, context);
  const bool changes_scores = log_scale || (context.training && is_on_scores(options.noise.kind));
  if (options.kind != RouterKind::linear && !changes_scores) {
    const ScoredChoice made = cosine_choice(in, weight.as(in.dtype()), cosine_options(options), beta, options.top_k,
                                            options.weighting == Weighting::before_top_k);
    return make_routing(made.scores, made.choice);
  }
  const Tensor z = scores_of(in, context);
  const Noisy with_noise = noisy(z, in, context);
  Routing routing = route(z, beta, options.top_k, options.weighting, with_noise.scores, options.noise.selection_only);
  routing.deviation = with_noise.deviation;
  return routing;
}

Routing route(const Tensor& scores, const Tensor& bias, int64_t top_k, Weighting weighting, const Tensor& noisy,
              bool selection_only) {
  check(scores.shape().rank() == 2, "route: scores must be [tokens, experts], got {}", scores.shape());
  const int64_t experts = scores.dim(1);
  check(top_k >= 1 && top_k <= experts, "route: top_k must be between 1 and experts, got top_k = {}, experts = {}",
        top_k, experts);
  check(!bias.defined() || bias.shape() == Shape({experts}), "route: bias must be [experts = {}], got {}", experts,
        bias.shape());
  check(!noisy.defined() || noisy.shape() == scores.shape(), "route: noisy must have the scores' shape {}, got {}",
        scores.shape(), noisy.shape());
  const Tensor& seen = noisy.defined() ? noisy : scores;   // by the selection
  const Tensor& weighed = selection_only ? scores : seen;  // by the softmax
  // A softmax over all, renormalized over the chosen, is the softmax over the chosen; this way nothing underflows.
  const Choice choice = choose_experts(seen, weighed, bias, top_k, weighting == Weighting::before_top_k);
  Routing routing = make_routing(scores, choice);
  routing.noisy_scores = noisy;
  return routing;
}

}  // namespace moxie::moe
