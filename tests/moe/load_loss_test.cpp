// SPDX-License-Identifier: Apache-2.0
// The smooth load of noisy top-k and the loss on it: plain loops, chance, balance, differences.
#include "core/storage.h"
#include "core/team.h"
#include "moe/kernels/load.h"
#include "moe/losses.h"
#include "moe/router.h"
#include "tests/guarded.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

const TokenKey at{.key = {.seed = 3}};

// A routing of gaussian noise with its own deviation for each score.
Routing noisy_routing(const Tensor& scores, const Tensor& deviation, int64_t top_k) {
  const Array draws = gaussian_noise(Tensor::zeros(scores.shape(), scores.options()), 1, at).value();
  Routing routing = route(scores, {}, top_k, Weighting::after_top_k, scores + deviation * Tensor(draws));
  routing.deviation = deviation;
  return routing;
}

Array deviations(const Shape& shape, uint64_t seed) {
  Numbers values = random(shape, seed).to_vector<double>();
  for (double& v : values) v = 0.2 + std::abs(v);
  return Array::from(values, shape, current_device());
}

double normal_probability(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

DEVICE_TEST_CASE("the smooth load equals its formula in plain loops") {
  for (const auto& [tokens, experts, top_k] : {std::tuple<int64_t, int64_t, int64_t>(1, 2, 1), {7, 5, 2}, {40, 9, 8}}) {
    INFO(fmt::format("{} {} {}", tokens, experts, top_k));
    const Routing routing =
        noisy_routing(Tensor(random({tokens, experts}, 1)), Tensor(deviations({tokens, experts}, 2)), top_k);
    const Numbers z = routing.scores.to_vector<double>(), h = routing.noisy_scores.to_vector<double>(),
                  s = routing.deviation.to_vector<double>();
    Numbers load(static_cast<size_t>(experts));
    for (size_t t = 0; t < static_cast<size_t>(tokens); ++t)
      for (size_t e = 0; e < load.size(); ++e) {
        Numbers others;
        for (size_t o = 0; o < load.size(); ++o)
          if (o != e) others.push_back(h[t * load.size() + o]);
        std::sort(others.rbegin(), others.rend());
        const size_t i = t * load.size() + e;
        load[e] +=
            normal_probability((z[i] - others[static_cast<size_t>(top_k) - 1]) / s[i]) / static_cast<double>(tokens);
      }
    poison_new_memory(true);
    const Tensor smooth = smooth_load(routing.scores, routing.noisy_scores, routing.deviation, top_k);
    CHECK(difference(smooth.value(), Array::from(load, {experts}, current_device())) < 1e-13);
    const auto f32 = [](const Tensor& x) { return cast(x, Dtype::f32); };
    CHECK(difference(smooth_load(f32(routing.scores), f32(routing.noisy_scores), f32(routing.deviation), top_k),
                     smooth) < 1e-5);
    poison_new_memory(false);
    double mean = 0, variance = 0;
    for (const double v : load) mean += v / static_cast<double>(experts);
    for (const double v : load) variance += (v - mean) * (v - mean) / static_cast<double>(experts);
    CHECK(load_loss(std::span(&routing, 1)).item() == doctest::Approx(variance / (mean * mean)).epsilon(1e-8));
    const std::vector<Routing> two{routing, routing};
    CHECK(load_loss(two).item() == doctest::Approx(load_loss(std::span(&routing, 1)).item()));
  }
}

DEVICE_TEST_CASE("the smooth load is how often an expert is chosen") {
  const int64_t tokens = 20000;
  const Numbers z{1, 0.3, -0.2, 0.1, -1}, s{0.5, 0.3, 1, 0.2, 0.8};
  Numbers scores, spread;
  for (int64_t t = 0; t < tokens; ++t)
    scores.insert(scores.end(), z.begin(), z.end()), spread.insert(spread.end(), s.begin(), s.end());
  const Routing routing = noisy_routing(Tensor(Array::from(scores, {tokens, 5}, current_device())),
                                        Tensor(Array::from(spread, {tokens, 5}, current_device())), 2);
  const Numbers smooth = smooth_load(routing.scores, routing.noisy_scores, routing.deviation, 2).to_vector<double>();
  for (size_t e = 0; e < 5; ++e) {
    const double share = static_cast<double>(routing.load()[e]) / static_cast<double>(tokens);
    CHECK(std::abs(smooth[e] - share) < 4 * std::sqrt(0.25 / static_cast<double>(tokens)));
  }
}

DEVICE_TEST_CASE("the load loss at balance is 0, and near experts - 1 where one takes everything") {
  const int64_t experts = 4, tokens = 4 * 5000;
  Numbers z, collapsed;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t e = 0; e < experts; ++e) {
      z.push_back(e == t % experts ? 1 : 0);
      collapsed.push_back(e == 2 ? 30 : 0);
    }
  const Tensor spread = Tensor::full({tokens, experts}, 0.5, {Dtype::f64, current_device()});
  const Routing even = noisy_routing(Tensor(Array::from(z, {tokens, experts}, current_device())), spread, 1);
  CHECK(load_loss(std::span(&even, 1)).item() < 1e-3);
  const Routing one = noisy_routing(Tensor(Array::from(collapsed, {tokens, experts}, current_device())), spread, 1);
  CHECK(load_loss(std::span(&one, 1)).item() == doctest::Approx(3));
  const Routing everybody = noisy_routing(Tensor(Array::from(z, {tokens, experts}, current_device())), spread, 4);
  CHECK(load_loss(std::span(&everybody, 1)).item() == 0);
}

DEVICE_TEST_CASE("gradients of the smooth load and its loss agree with differences, the draws held fixed") {
  for (const auto& [tokens, experts, top_k] :
       {std::tuple<int64_t, int64_t, int64_t>(1, 2, 1), {5, 4, 1}, {6, 5, 2}, {30, 9, 8}}) {
    INFO(fmt::format("{} {} {}", tokens, experts, top_k));
    const auto load = [top_k](std::span<const Tensor> in) {
      const Routing routing = noisy_routing(in[0], in[1], top_k);
      return smooth_load(routing.scores, routing.noisy_scores, routing.deviation, top_k);
    };
    const auto loss = [top_k](std::span<const Tensor> in) {
      const Routing routing = noisy_routing(in[0], in[1], top_k);
      return load_loss(std::span(&routing, 1));
    };
    const std::vector<Tensor> inputs{leaf(random({tokens, experts}, 1)), leaf(deviations({tokens, experts}, 2))};
    check_gradients(load, inputs, {.step = 1e-4});
    check_gradients(loss, inputs, {.step = 1e-4});
    // Each input alone.
    for (const size_t fixed : {size_t{0}, size_t{1}}) {
      std::vector<Tensor> one = inputs;
      one[fixed] = inputs[fixed].detach();
      check_gradients(load, one, {.step = 1e-4});
    }
  }
}

DEVICE_TEST_CASE("a deviation of nearly 0 overflows nothing") {
  const Tensor scores = leaf(random({9, 5}, 1, 1, Dtype::f32)),
               spread = leaf(Array::full({9, 5}, 1e-30, {Dtype::f32, current_device()}));
  const Routing routing = noisy_routing(scores, spread, 2);
  smooth_load(scores, routing.noisy_scores, spread, 2).backward(random({5}, 2, 1, Dtype::f32));
  for (const double v : scores.grad().to_vector<double>()) CHECK(std::isfinite(v));
  CHECK(all_zero(spread.grad()));
  // Of the least deviation itself there is a gradient: u = -0.1 and 0.1 deviations, d load = -phi(u) u / deviation.
  const Tensor close = leaf(Array::from(Numbers{0, 1e-7}, {1, 2})),
               least = leaf(Array::full({1, 2}, 1e-6, {Dtype::f64}));
  smooth_load(close, close, least, 1).backward(Array::from(Numbers{1, 2}, {2}));
  const double slope = std::exp(-0.005) / std::sqrt(2 * std::acos(-1.0)) * 0.1 / 1e-6;
  CHECK(least.grad().to_vector<double>()[0] == doctest::Approx(slope).epsilon(1e-6));
  CHECK(least.grad().to_vector<double>()[1] == doctest::Approx(-2 * slope).epsilon(1e-6));
}

TEST_CASE("the gradient of the smooth load stays within its memory") {
  const Numbers scores = random({3, 4}, 1).to_vector<double>(), ones(12, 1), best{2, 1, 0, 2, 1, 0, 2, 1, 0};
  const Guarded<double> z(scores), noisy(scores), deviation(ones), thresholds(best), dload(Numbers(4, 1)), dz(ones),
      ddeviation(ones), dbest(best);
  const LoadProbabilityBackward<double> kernel{z.data(),
                                               noisy.data(),
                                               deviation.data(),
                                               thresholds.data(),
                                               dload.data(),
                                               dz.data(),
                                               ddeviation.data(),
                                               dbest.data(),
                                               4,
                                               2,
                                               1.0};
  for (int64_t token = 0; token < 3; ++token) kernel(SerialTeam{}, token);
  for (size_t token = 0; token < 3; ++token) {
    CHECK(dbest.values()[3 * token] == 0);  // the best is nobody's threshold
    double all = dbest.values()[3 * token + 1] + dbest.values()[3 * token + 2];
    for (size_t e = 0; e < 4; ++e) all += dz.values()[4 * token + e];
    CHECK(std::abs(all) < 1e-15);  // who moves together with all thresholds changes nothing
  }
}

DEVICE_TEST_CASE("the load loss of nothing is 0") {
  const std::vector<Routing> none;
  CHECK(load_loss(none).item() == 0);
  const Routing empty = noisy_routing(leaf(random({0, 4}, 1)), leaf(random({0, 4}, 2)), 2);
  CHECK(load_loss(std::span(&empty, 1)).item() == 0);
}

DEVICE_TEST_CASE("the load loss teaches learned noise how much to add") {
  nn::Initializer init(1, current_device());
  const Router router(6, {.experts = 5, .top_k = 2, .noise = {.kind = NoiseKind::learned, .scale = 1}}, init);
  const Routing routing = router(Tensor(random({40, 6}, 1, 1, Dtype::f32)), {.training = true});
  load_loss(std::span(&routing, 1)).backward();
  CHECK_FALSE(all_zero(router.noise_weight->grad()));
  CHECK_FALSE(all_zero(router.weight.grad()));
}

}  // namespace
}  // namespace moxie::moe
