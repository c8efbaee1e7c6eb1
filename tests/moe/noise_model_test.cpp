// SPDX-License-Identifier: Apache-2.0
// Router noise in routers, layers and models: what sees it, gradients of the whole, evaluation, accumulation, bits.
#include "moe/language_model.h"
#include "nn/optimizer.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

constexpr NoiseKind kinds[] = {NoiseKind::jitter, NoiseKind::jitter_shared, NoiseKind::gaussian,
                               NoiseKind::gumbel, NoiseKind::learned,       NoiseKind::multiplicative};

const nn::Context training{.training = true, .dtype = Dtype::f64, .seed = 2, .step = 3, .layer = 1, .first_token = 4};
const nn::Context evaluation{.dtype = Dtype::f64, .seed = 2, .step = 3, .layer = 1};

NoiseOptions noise_of(NoiseKind kind, bool selection_only = false) {
  return {.kind = kind, .scale = 0.4, .selection_only = selection_only};
}

Router make_router(int64_t width, const RouterOptions& options, uint64_t seed) {
  nn::Initializer init(seed, current_device());
  Router router(width, options, init);
  nn::to(router, Dtype::f64);
  if (router.bias) router.bias->set_value(random({options.experts}, seed + 50));
  if (router.noise_weight) router.noise_weight->set_value(random(router.noise_weight->shape(), seed + 60, 0.5));
  return router;
}

// The smallest distance between the last chosen and the best other of the scores that the selection saw.
double selection_margin(const Routing& routing) {
  const Tensor seen = routing.noisy_scores.defined() ? routing.noisy_scores : routing.scores;
  const Numbers z = seen.to_vector<double>();
  const auto experts = static_cast<size_t>(routing.experts), k = static_cast<size_t>(routing.top_k);
  double least = HUGE_VAL;
  for (size_t first = 0; first < z.size() && k < experts; first += experts) {
    Numbers row(z.begin() + static_cast<std::ptrdiff_t>(first),
                z.begin() + static_cast<std::ptrdiff_t>(first + experts));
    std::sort(row.rbegin(), row.rend());
    least = std::min(least, row[k - 1] - row[k]);
  }
  return least;
}

Tensor mixed(const Tensor& x, uint64_t seed) { return sum(x * Tensor(random(x.shape(), seed))); }

DEVICE_TEST_CASE("gradients of whole noisy routers agree with differences, the draws held fixed") {
  int checked = 0;
  for (const NoiseKind kind : kinds)
    for (const RouterKind router_kind : {RouterKind::linear, RouterKind::perturbed_cosine})
      for (const Weighting weighting : {Weighting::after_top_k, Weighting::before_top_k})
        for (const bool selection_only : {false, true}) {
          if (selection_only && (!is_on_scores(kind) || kind == NoiseKind::learned)) continue;
          const RouterOptions options{.kind = router_kind,
                                      .experts = 5,
                                      .top_k = 2,
                                      .weighting = weighting,
                                      .scale = 2,
                                      .projection = router_kind == RouterKind::linear ? 0 : 3,
                                      .noise = noise_of(kind, selection_only)};
          INFO(describe(options));
          for (uint64_t seed = 1; seed < 60; ++seed) {  // until a selection is stable
            const Router router = make_router(4, options, seed);
            const nn::Parameter x(random({6, 4}, seed + 900));
            const auto loss = [&] {
              const Routing routing = router(x.as(Dtype::f64), training);
              return mixed(routing.scores, 91) + mixed(routing.weights, 92);
            };
            if (selection_margin(router(x.as(Dtype::f64), training)) < 0.02) continue;
            std::vector<nn::NamedParameter> parameters = nn::parameters(router);
            parameters.push_back({"x", x.tie()});
            check_parameter_gradients(parameters, loss);
            ++checked;
            break;
          }
        }
  CHECK(checked == 2 * 2 * (6 + 3));
}

DEVICE_TEST_CASE("learned noise starts with deviation softplus(0), and its weight moves") {
  nn::Initializer init(1, current_device());
  const Router router(4, {.experts = 5, .top_k = 2, .noise = noise_of(NoiseKind::learned)}, init);
  CHECK(all_zero(router.noise_weight->value()));
  const Routing routing = router(Tensor(random({6, 4}, 1, 1, Dtype::f32)), {.training = true});
  for (const double deviation : routing.deviation.to_vector<double>())
    CHECK(deviation == doctest::Approx(0.4 * std::log(2.0)).epsilon(1e-6));
  mixed(cast(routing.weights, Dtype::f64), 1).backward();
  CHECK_FALSE(all_zero(router.noise_weight->grad()));
}

DEVICE_TEST_CASE("selection and weights see the noisy scores, balance and z-loss the clean ones") {
  const Array x = random({200, 4}, 1);
  for (const NoiseKind kind : {NoiseKind::gaussian, NoiseKind::gumbel, NoiseKind::learned, NoiseKind::multiplicative}) {
    INFO(name_of(kind));
    RouterOptions options{.experts = 6, .top_k = 2, .bias = false, .noise = noise_of(kind)};
    options.noise.scale = 1;
    const Router router = make_router(4, options, 3);
    const Routing noisy = router(Tensor(x), training), clean = router(Tensor(x), evaluation);
    CHECK(same_bits(noisy.scores.value(), clean.scores.value()));
    CHECK_FALSE(clean.noisy_scores.defined());
    CHECK_FALSE(same_bits(noisy.chosen, clean.chosen));
    const Routing by_noise = route(noisy.noisy_scores, {}, 2, Weighting::after_top_k);
    CHECK(same_bits(noisy.chosen, by_noise.chosen));
    CHECK(same_bits(noisy.weights.value(), by_noise.weights.value()));
    CHECK(z_loss(std::span(&noisy, 1)).item() == z_loss(std::span(&clean, 1)).item());
    // Balance: what experts got by the noisy selection, times the clean probabilities.
    const Routing mixture = make_routing(clean.scores, noisy.weights, noisy.chosen, 6);
    CHECK(balance_loss(std::span(&noisy, 1)).item() == balance_loss(std::span(&mixture, 1)).item());
    CHECK(balance_loss(std::span(&noisy, 1)).item() != balance_loss(std::span(&clean, 1)).item());
    if (kind == NoiseKind::learned) continue;
    // On the selection only: the same choice, weights of the clean scores.
    options.noise.selection_only = true;
    for (const Weighting weighting : {Weighting::after_top_k, Weighting::before_top_k}) {
      options.weighting = weighting;
      const Routing chosen_by_noise = make_router(4, options, 3)(Tensor(x), training);
      CHECK(same_bits(chosen_by_noise.chosen, noisy.chosen));
      Tensor weights = gather(exp(clean.scores), -1, noisy.chosen);
      weights = weights / sum(weighting == Weighting::before_top_k ? exp(clean.scores) : weights, 1, true);
      CHECK(difference(chosen_by_noise.weights, weights) < 1e-14);
    }
  }
}

DEVICE_TEST_CASE("jitter: the router's input alone, or the experts' too") {
  const MoeOptions plain{.router = {.experts = 5, .top_k = 2}, .hidden = 3};
  const auto layer_with = [&](NoiseKind kind) {
    MoeOptions options = plain;
    if (kind != NoiseKind::none) options.router.noise = noise_of(kind);
    nn::Initializer init(1, current_device());
    MoeLayer layer(4, options, init);
    nn::to(layer, Dtype::f64);
    return layer;
  };
  const MoeLayer layer = layer_with(NoiseKind::none);
  const Tensor x(random({30, 4}, 1)), jittered = bounded_noise(x, 0.4, router_noise_key(training));
  const Routing of_jittered = layer.router(jittered, evaluation);
  const MoeOutput alone = layer_with(NoiseKind::jitter)(x, training);
  CHECK(same_bits(alone.routing.chosen, of_jittered.chosen));
  CHECK(same_bits(alone.routing.weights.value(), of_jittered.weights.value()));
  const Tensor expected = combine(layer.experts(dispatch(x, of_jittered), of_jittered, evaluation), of_jittered);
  CHECK(same_bits(alone.y.value(), expected.value()));
  const MoeOutput shared = layer_with(NoiseKind::jitter_shared)(x, training);
  CHECK(same_bits(shared.y.value(), layer(jittered, evaluation).y.value()));
  CHECK(difference(shared.y, alone.y) > 0.01);
}

LanguageModelOptions small_options(const NoiseOptions& noise) {
  LanguageModelOptions options{
      .vocabulary = 31, .layers = 3, .width = 16, .heads = 4, .dense_layers = 1, .z_weight = 1e-2};
  options.moe = {.router = {.experts = 5, .top_k = 2, .noise = noise}, .hidden = 12, .erc = true};
  if (has_deviation(noise.kind)) options.load_weight = 0.1;
  return options;
}

Array random_tokens(const Shape& shape, uint64_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < shape.numel(); ++i)
    tokens.push_back(static_cast<int32_t>(random_bits({.seed = seed}, static_cast<uint64_t>(i)) % 31));
  return integers(tokens, shape);
}

DEVICE_TEST_CASE("evaluation with noise in the options equals a model without, bit by bit") {
  const Array tokens = random_tokens({3, 9}, 1), targets = random_tokens({3, 9}, 2);
  LanguageModelOptions without = small_options({});
  const LanguageModel plain(without, 1, current_device());
  for (const NoiseKind kind : kinds) {
    const LanguageModel noisy(small_options(noise_of(kind)), 1, current_device());
    CHECK(same_bits(noisy(tokens, {}).value(), plain(tokens, {}).value()));
    const Losses a = noisy.losses(tokens, targets, {}), b = plain.losses(tokens, targets, {});
    CHECK(a.total(noisy.options).item() == b.total(without).item());
    const Losses c = noisy.losses(tokens, targets, {.training = true}),
                 d = plain.losses(tokens, targets, {.training = true});
    CHECK(c.cross_entropy.item() != d.cross_entropy.item());
    CHECK(c.load.defined() == has_deviation(kind));
    CHECK_FALSE(a.load.defined());
  }
}

std::vector<Array> gradients(const LanguageModel& model, const Array& tokens, const Array& targets,
                             const nn::Context& context, int64_t parts) {
  nn::clear_grads(model);
  const int64_t rows = tokens.dim(0) / parts;
  for (int64_t part = 0; part < parts; ++part) {
    nn::Context here = context;
    here.micro_batch = static_cast<uint32_t>(part), here.first_token = part * rows * tokens.dim(1);
    model.losses(tokens.rows(part * rows, rows), targets.rows(part * rows, rows), here)
        .total(model.options, parts)
        .backward();
  }
  std::vector<Array> all;
  for (const nn::NamedParameter& named : nn::parameters(model)) all.push_back(named.parameter.grad().clone());
  return all;
}

DEVICE_TEST_CASE("micro-batches draw the same noise as the whole batch") {
  const Array tokens = random_tokens({6, 7}, 1), targets = random_tokens({6, 7}, 2);
  for (const NoiseKind kind : kinds) {
    INFO(name_of(kind));
    LanguageModelOptions options = small_options(noise_of(kind));
    options.balance_weight = options.load_weight = 0;  // not means over tokens
    LanguageModel model(options, 1, current_device());
    nn::to(model, Dtype::f64);
    const nn::Context context{.training = true, .dtype = Dtype::f64, .seed = 3};
    const std::vector<Array> whole = gradients(model, tokens, targets, context, 1);
    for (const int64_t parts : {2, 3}) {
      const std::vector<Array> cut = gradients(model, tokens, targets, context, parts);
      for (size_t i = 0; i < whole.size(); ++i) CHECK(difference(cut[i], whole[i]) < 1e-12);
    }
  }
}

DEVICE_TEST_CASE("noise under recomputation gives the same bits") {
  const Array tokens = random_tokens({4, 20}, 1), targets = random_tokens({4, 20}, 2);
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const NoiseKind kind : kinds) {
      INFO(name_of(kind));
      LanguageModelOptions options = small_options(noise_of(kind));
      const nn::Context context{.training = true, .dtype = dtype, .seed = 3, .step = 4};
      const std::vector<Array> kept =
          gradients(LanguageModel(options, 1, current_device()), tokens, targets, context, 2);
      options.recompute = true;
      const std::vector<Array> again =
          gradients(LanguageModel(options, 1, current_device()), tokens, targets, context, 2);
      for (size_t i = 0; i < kept.size(); ++i) CHECK(same_bits(kept[i], again[i]));
    }
}

DEVICE_TEST_CASE("training with noise gives the same bits twice, and for one and two threads") {
  const int before = threads();
  for (const NoiseKind kind : kinds) {
    if (testing::small_only() && kind != NoiseKind::learned) continue;
    INFO(name_of(kind));
    LanguageModelOptions options = small_options(noise_of(kind));
    options.width = 64, options.layers = 2;
    std::vector<std::vector<Array>> results;
    for (const int count : {1, 2, 2}) {
      set_threads(count);
      const LanguageModel model(options, 1, current_device());
      nn::AdamW optimizer(nn::parameters(model));
      for (uint32_t step = 0; step < 2; ++step) {
        const nn::Context context{.training = true, .seed = 2, .step = step};
        model.losses(random_tokens({8, 160}, step), random_tokens({8, 160}, step + 9), context)
            .total(options)
            .backward();
        optimizer.step(1e-2);
      }
      results.emplace_back();
      for (const nn::NamedParameter& named : nn::parameters(model))
        results.back().push_back(named.parameter.value().clone());
    }
    for (const std::vector<Array>& result : results)
      for (size_t i = 0; i < result.size(); ++i) CHECK(same_bits(result[i], results[0][i]));
  }
  set_threads(before);
}

}  // namespace
}  // namespace moxie::moe
