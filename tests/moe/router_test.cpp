// SPDX-License-Identifier: Apache-2.0
// Routers against PyTorch, elementary ops and differences; what the bias may and may not do.
#include "moe/router.h"

#include "moe/cosine_scores.h"
#include "moe/losses.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

constexpr RouterKind kinds[] = {RouterKind::linear, RouterKind::cosine, RouterKind::perturbed_cosine};
constexpr Weighting weightings[] = {Weighting::after_top_k, Weighting::before_top_k,
                                    Weighting::before_top_k_renormalized};

Router make_router(int64_t width, const RouterOptions& options, uint64_t seed = 1) {
  nn::Initializer init(seed, current_device());
  Router router(width, options, init);
  nn::to(router, Dtype::f64);
  if (router.bias) router.bias->set_value(random({options.experts}, seed + 50));
  return router;
}

const nn::Context precise{.dtype = Dtype::f64};

// sum(a * x) with a random a: a scalar whose gradient reaches everything with a random cotangent.
Tensor mixed(const Tensor& x, uint64_t seed) { return sum(x * Tensor(random(x.shape(), seed))); }
Tensor mixed(const Routing& routing) { return mixed(routing.scores, 91) + mixed(routing.weights, 92); }

// The smallest distance between the last chosen score and the best that was not.
double selection_margin(const Routing& routing) {
  const Numbers z = routing.scores.to_vector<double>();
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

DEVICE_TEST_CASE("routers equal PyTorch, forward and all gradients") {
  const Fixture fixture("routers.safetensors");
  for (const RouterKind kind : kinds)
    for (const Weighting weighting : weightings) {
      const std::string at = fmt::format("{}.{}.", name_of(kind), name_of(weighting));
      INFO(at);
      const bool perturbed = kind == RouterKind::perturbed_cosine;
      Router router = make_router(5, {.kind = kind,
                                      .experts = 6,
                                      .top_k = 3,
                                      .weighting = weighting,
                                      .tau_expert = 0.1,
                                      .tau_token = 0.35,
                                      .scale = kind == RouterKind::linear ? 1
                                               : perturbed                ? 2.0
                                                                          : 3.0});
      router.weight.set_value(fixture["router"]);
      router.bias->set_value(fixture["bias"]);
      const Tensor x = leaf(fixture["x"]);
      const Routing routing = router(x, precise);
      CHECK(difference(routing.scores.value(), fixture[at + "scores"]) < 1e-13);
      CHECK(difference(routing.weights.value(), fixture[at + "weights"]) < 1e-13);
      CHECK(routing.chosen.to_vector<int32_t>() == fixture[at + "chosen"].to_vector<int32_t>());
      (sum(routing.scores * Tensor(fixture["dscores"])) + sum(routing.weights * Tensor(fixture["dweights"])))
          .backward();
      CHECK(difference(x.grad(), fixture[at + "dx"]) < 1e-12);
      CHECK(difference(router.weight.grad(), fixture[at + "drouter"]) < 1e-12);
      CHECK(difference(router.bias->grad(), fixture[at + "dbias"]) < 1e-12);
    }
}

// The same scores by elementary ops.
Tensor reference_scores(const Tensor& x, const Tensor& weight, double tau_expert, double tau_token, double scale) {
  const auto norms = [](const Tensor& rows, double tau) { return sqrt(sum(rows * rows, 1, true)) + tau; };
  return scale * matmul(x, weight, {.transpose_y = true}) / norms(x, tau_token) /
         transpose(norms(weight, tau_expert), 0, 1);
}

// Random numbers away from 0, where a short row would bend the scores too much for differences.
Array off_zero(const Shape& shape, uint64_t seed) {
  Numbers values = random(shape, seed).to_vector<double>();
  for (double& value : values) value += std::copysign(0.5, value);
  return Array::from(values, shape, current_device());
}

DEVICE_TEST_CASE("cosine scores equal elementary ops and agree with differences") {
  for (const auto& [tau_expert, tau_token] : {std::pair(0.0, 0.0), {0.1, 0.1}, {0.7, 0.0}, {0.0, 0.4}})
    for (const int64_t tokens : {1, 6, 40})
      for (const auto& [experts, width] : {std::pair<int64_t, int64_t>(1, 3), {5, 2}, {9, 33}}) {
        INFO(tau_expert, " ", tau_token, " ", tokens, " ", experts, " ", width);
        const Array x = off_zero({tokens, width}, 1), weight = off_zero({experts, width}, 2);
        const Array dz = random({tokens, experts}, 3);
        const auto f = [&](std::span<const Tensor> in) {
          return cosine_scores(in[0], in[1], tau_expert, tau_token, 1.7);
        };
        check_gradients(f, {leaf(x), leaf(weight)}, {.step = 1e-4, .full_jacobian_up_to = 400});
        const Tensor x1 = leaf(x), w1 = leaf(weight), x2 = leaf(x), w2 = leaf(weight);
        const Tensor z1 = cosine_scores(x1, w1, tau_expert, tau_token, 1.7);
        const Tensor z2 = reference_scores(x2, w2, tau_expert, tau_token, 1.7);
        CHECK(difference(z1, z2) < 1e-14);
        z1.backward(dz), z2.backward(dz);
        CHECK(difference(x1.grad(), x2.grad()) < 1e-12);
        CHECK(difference(w1.grad(), w2.grad()) < 1e-12);
        const Tensor x3 = leaf(x.to(Dtype::f32)), w3 = leaf(weight.to(Dtype::f32));
        const Tensor z3 = cosine_scores(x3, w3, tau_expert, tau_token, 1.7);
        z3.backward(dz.to(Dtype::f32));
        CHECK(difference(z3, z2) < 2e-6);
        CHECK(difference(x3.grad(), x2.grad()) < 1e-5);
        CHECK(difference(w3.grad(), w2.grad()) < 1e-5);
      }
}

DEVICE_TEST_CASE("zero norms: score and gradient 0 with tau 0, the plain limit with tau above 0") {
  Numbers tokens = random({4, 3}, 1).to_vector<double>(), rows = random({5, 3}, 2).to_vector<double>();
  std::fill_n(tokens.begin() + 3, 3, 0.0);  // token 1
  std::fill_n(rows.begin() + 6, 3, 0.0);    // expert 2
  const Array dz = random({4, 5}, 3);
  for (const double tau : {0.0, 0.1}) {
    const Tensor x = leaf(Array::from(tokens, {4, 3}, current_device())),
                 weight = leaf(Array::from(rows, {5, 3}, current_device()));
    const Tensor z = cosine_scores(x, weight, tau, tau);
    z.backward(dz);
    for (const Array& array : {z.value(), x.grad(), weight.grad()})
      for (const double value : array.to_vector<double>()) CHECK(std::isfinite(value));
    const Numbers scores = z.to_vector<double>(), dx = x.grad().to_vector<double>(),
                  dw = weight.grad().to_vector<double>(), g = dz.to_vector<double>();
    for (size_t e = 0; e < 5; ++e) CHECK(scores[5 + e] == 0);
    for (size_t t = 0; t < 4; ++t) CHECK(scores[5 * t + 2] == 0);
    const auto norm = [](const Numbers& v, size_t row) {
      return std::sqrt(v[3 * row] * v[3 * row] + v[3 * row + 1] * v[3 * row + 1] + v[3 * row + 2] * v[3 * row + 2]);
    };
    for (size_t k = 0; k < 3; ++k) {  // dx = sum of dz r / (tau (|r| + tau)) at x = 0, and 0 for tau 0
      double token = 0, expert = 0;
      for (size_t e = 0; e < 5 && tau > 0; ++e) token += g[5 + e] * rows[3 * e + k] / (tau * (norm(rows, e) + tau));
      for (size_t t = 0; t < 4 && tau > 0; ++t)
        expert += g[5 * t + 2] * tokens[3 * t + k] / (tau * (norm(tokens, t) + tau));
      CHECK(dx[3 + k] == doctest::Approx(token).epsilon(1e-12));
      CHECK(dw[6 + k] == doctest::Approx(expert).epsilon(1e-12));
    }
  }
}

DEVICE_TEST_CASE("the radial derivative of a score equals its closed form, and plain cosine has none") {
  for (const double tau : {0.0, 0.1, 0.5}) {
    const Array x = random({1, 6}, 4), r = random({1, 6}, 5);
    const Tensor weight = leaf(r);
    cosine_scores(Tensor(x), weight, tau, 0.3).backward();
    double radial = 0, dot = 0, nx = 0, nr = 0;
    const Numbers dw = weight.grad().to_vector<double>(), a = x.to_vector<double>(), b = r.to_vector<double>();
    for (size_t i = 0; i < 6; ++i) radial += b[i] * dw[i], dot += a[i] * b[i], nx += a[i] * a[i], nr += b[i] * b[i];
    nx = std::sqrt(nx), nr = std::sqrt(nr);
    CHECK(std::abs(radial - tau * dot / ((nr + tau) * (nr + tau) * (nx + 0.3))) < 1e-15);
  }
  // Plain cosine doesn't see lengths.
  const Array x = random({7, 6}, 6), r = random({4, 6}, 7);
  const Tensor longer = Tensor(x) * 1000.0, shorter = Tensor(r) * 0.001;
  CHECK(difference(cosine_scores(longer, shorter, 0, 0), cosine_scores(Tensor(x), Tensor(r), 0, 0)) < 1e-14);
  CHECK(difference(cosine_scores(longer, shorter, 0.1, 0), cosine_scores(Tensor(x), Tensor(r), 0.1, 0)) > 0.1);
}

DEVICE_TEST_CASE("gradients of whole routers agree with differences") {
  int checked = 0;
  for (const RouterKind kind : kinds)
    for (const Weighting weighting : weightings)
      for (const bool bias : {false, true})
        for (const int variant :
             {0, 1, 2, 3}) {  // plain, projection, projection with bias, and with a learned temperature
          if (variant == 3 && kind == RouterKind::linear) continue;
          const RouterOptions options{.kind = kind,
                                      .experts = 5,
                                      .top_k = 2,
                                      .weighting = weighting,
                                      .tau_expert = 0.2,
                                      .tau_token = 0.3,
                                      .scale = variant == 3 ? 1.0 : 2.5,
                                      .bias = bias,
                                      .projection = variant == 0 ? 0 : 3,
                                      .projection_bias = variant >= 2,
                                      .learned_temperature = variant == 3};
          INFO(describe(options));
          // Inputs whose selection is stable.
          for (uint64_t seed = 1; seed < 60; ++seed) {
            Router router = make_router(4, options, seed);
            if (router.projection && router.projection->bias)
              router.projection->bias->set_value(random({3}, seed + 7, 0.3));
            const nn::Parameter x(random({6, 4}, seed + 900));
            if (selection_margin(router(x.as(Dtype::f64), precise)) < 0.02) continue;
            std::vector<nn::NamedParameter> parameters = nn::parameters(router);
            parameters.push_back({"x", x.tie()});
            check_parameter_gradients(parameters, [&] { return mixed(router(x.as(Dtype::f64), precise)); });
            ++checked;
            break;
          }
        }
  CHECK(checked == (3 * 3 + 2) * 3 * 2);
}

DEVICE_TEST_CASE("the learned temperature starts at 2 and stops at 100") {
  Router router = make_router(
      4, {.kind = RouterKind::cosine, .experts = 3, .top_k = 1, .projection = 2, .learned_temperature = true});
  const Tensor x(random({5, 4}, 3));
  const Tensor unscaled = cosine_scores((*router.projection)(x, precise), router.weight.as(Dtype::f64), 0, 0);
  CHECK(difference(router.scores(x, precise), 2.0 * unscaled) < 1e-6);  // log 2 is kept in f32
  router.log_scale->set_value(Array::full({1}, 7.0, {Dtype::f32, current_device()}));
  const Tensor z = router.scores(x, precise);
  CHECK(difference(z, 100.0 * unscaled) < 1e-13);
  mixed(z, 1).backward();
  CHECK(all_zero(router.log_scale->grad()));
}

DEVICE_TEST_CASE("the selection is by score alone: bias changes weights, not the choice nor balance and z-loss") {
  for (const Weighting weighting : weightings) {
    const Tensor scores = leaf(random({50, 8}, 1)), bias = leaf(random({8}, 2, 5));
    const Routing with = route(scores, bias, 3, weighting), without = route(scores, {}, 3, weighting);
    CHECK(same_bits(with.chosen, without.chosen));
    CHECK(difference(with.weights, without.weights) > 0.1);
    const std::vector<Routing> a{with}, b{without};
    for (const auto normalization : {BalanceNormalization::switch_, BalanceNormalization::hf})
      CHECK(balance_loss(a, normalization).item() == balance_loss(b, normalization).item());
    CHECK(z_loss(a).item() == z_loss(b).item());
    (balance_loss(a) + z_loss(a)).backward();
    CHECK_FALSE(bias.grad().defined());
    // Best score first; weights of the chosen sum to 1 unless they are shares of all.
    const Numbers z = scores.to_vector<double>(), w = with.weights.to_vector<double>();
    const std::vector<int32_t> chosen = with.chosen.to_vector<int32_t>();
    for (size_t t = 0; t < 50; ++t) {
      for (size_t j = 0; j + 1 < 3; ++j)
        CHECK(z[8 * t + static_cast<size_t>(chosen[3 * t + j])] >=
              z[8 * t + static_cast<size_t>(chosen[3 * t + j + 1])]);
      const double total = w[3 * t] + w[3 * t + 1] + w[3 * t + 2];
      if (weighting == Weighting::before_top_k)
        CHECK(total < 1);
      else
        CHECK(total == doctest::Approx(1).epsilon(1e-14));
    }
  }
  // Renormalized over the chosen, nothing underflows however much the bias favours an expert that wasn't chosen.
  const Routing far =
      route(Tensor(Array::from(Numbers{3, 2, 1}, {1, 3}, current_device())),
            Tensor(Array::from(Numbers{0, 0, 2000}, {3}, current_device())), 2, Weighting::before_top_k_renormalized);
  CHECK(far.weights.to_vector<double>()[0] == doctest::Approx(1 / (1 + std::exp(-1.0))));
}

DEVICE_TEST_CASE("ties go to the lowest expert") {
  const Tensor scores(Array::from(Numbers{1, 1, 1, 1, 0, 2, 2, 0}, {2, 4}, current_device()));
  for (const Weighting weighting : weightings) {
    const Routing routing = route(scores, {}, 2, weighting);
    CHECK(routing.chosen.to_vector<int32_t>() == std::vector<int32_t>{0, 1, 1, 2});
  }
}

DEVICE_TEST_CASE("bf16 activations, f32 router: scores and weights are f32, of the rounded inputs") {
  nn::Initializer init(1, current_device());
  const Router router(16, {.experts = 8, .top_k = 2}, init);
  const Tensor x(random({40, 16}, 2, 1, Dtype::bf16));
  const Routing narrow = router(x, {.dtype = Dtype::bf16}), wide = router(cast(x, Dtype::f32), {});
  CHECK(narrow.scores.dtype() == Dtype::f32);
  CHECK(narrow.weights.dtype() == Dtype::f32);
  CHECK(same_bits(narrow.scores.value(), wide.scores.value()));
  CHECK(same_bits(narrow.chosen, wide.chosen));
}

DEVICE_TEST_CASE("names come and go, and a router is described in full") {
  for (const RouterKind kind : kinds) CHECK(router_kind_from_name(name_of(kind)) == kind);
  for (const Weighting weighting : weightings) CHECK(weighting_from_name(name_of(weighting)) == weighting);
  CHECK(describe({}) ==
        "perturbed_cosine, top 2 of 8, softmax after_top_k, scale 1, tau_expert 0.1, tau_token 0.1, bias after "
        "selection, no noise");
  CHECK(describe({.kind = RouterKind::cosine,
                  .bias = false,
                  .projection = 4,
                  .projection_bias = true,
                  .learned_temperature = true}) ==
        "cosine, top 2 of 8, softmax after_top_k, scale learned, no bias, projection 4 with bias, no noise");
}

}  // namespace
}  // namespace moxie::moe
