// SPDX-License-Identifier: Apache-2.0
#include "moe/router.h"

#include <cmath>

#include "autograd/ops.h"
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
}

// exp(min(log_scale, log largest)), [1]
Tensor learned_scale(const Tensor& log_scale) {
  const double top = std::log(largest_scale);
  return exp(top - relu(top - log_scale));
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
  return text;
}

Router::Router(int64_t width, const RouterOptions& wanted, nn::Initializer& init) : options(wanted) {
  check(width >= 1, "Router: width must be positive, got {}", width);
  check_options(options);
  const int64_t space = options.projection > 0 ? options.projection : width;
  weight = nn::Parameter(init.normal({options.experts, space}, 1 / std::sqrt(static_cast<double>(space))));
  if (options.bias) bias = nn::Parameter(Array::zeros({options.experts}), {.decay = false});
  if (options.projection > 0) projection.emplace(width, space, init, options.projection_bias);
  if (options.learned_temperature) log_scale = nn::Parameter(Array::full({1}, std::log(first_scale)), {.decay = false});
}

Tensor Router::scores(const Tensor& x, const nn::Context& context) const {
  check(x.shape().rank() == 2, "Router: x must be [tokens, width], got {}", x.shape());
  nn::Context precise = context;
  precise.dtype = statistics_dtype(context.dtype);
  Tensor input = cast(x, precise.dtype);
  if (projection) input = (*projection)(input, precise);
  const Tensor rows = weight.as(precise.dtype);
  const double fixed_scale = log_scale ? 1 : options.scale;
  if (options.kind == RouterKind::linear) {
    const Tensor z = linear(input, rows);
    return fixed_scale == 1 ? z : z * fixed_scale;
  }
  const bool perturbed = options.kind == RouterKind::perturbed_cosine;
  const Tensor z =
      cosine_scores(input, rows, perturbed ? options.tau_expert : 0, perturbed ? options.tau_token : 0, fixed_scale);
  return log_scale ? z * learned_scale(log_scale->as(precise.dtype)) : z;
}

Routing Router::operator()(const Tensor& x, const nn::Context& context) const {
  const Tensor beta = bias ? bias->as(statistics_dtype(context.dtype)) : Tensor();
  return route(scores(x, context), beta, options.top_k, options.weighting);
}

Routing route(const Tensor& scores, const Tensor& bias, int64_t top_k, Weighting weighting) {
  check(scores.shape().rank() == 2, "route: scores must be [tokens, experts], got {}", scores.shape());
  const int64_t tokens = scores.dim(0), experts = scores.dim(1);
  check(top_k >= 1 && top_k <= experts, "route: top_k must be between 1 and experts, got top_k = {}, experts = {}",
        top_k, experts);
  check(!bias.defined() || bias.shape() == Shape({experts}), "route: bias must be [experts = {}], got {}", experts,
        bias.shape());
  // A softmax over all, renormalized over the chosen, is the softmax over the chosen; this way nothing underflows.
  if (weighting != Weighting::before_top_k) {
    const TopK best = moxie::top_k(scores, top_k);
    Tensor logits = best.values;
    if (bias.defined())
      logits = logits + reshape(embedding(reshape(bias, {experts, 1}), best.indices), {tokens, top_k});
    return make_routing(scores, softmax(logits), best.indices, experts);
  }
  const Array chosen = moxie::top_k(scores.detach(), top_k).indices;
  const Tensor weights = gather(softmax(bias.defined() ? scores + bias : scores), -1, chosen);
  return make_routing(scores, weights, chosen, experts);
}

}  // namespace moxie::moe
