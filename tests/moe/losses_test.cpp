// SPDX-License-Identifier: Apache-2.0
// Balance and z-loss: values at perfect balance, plain loops, transformers, differences.
#include "moe/losses.h"

#include "moe/router.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

constexpr BalanceNormalization normalizations[] = {BalanceNormalization::switch_, BalanceNormalization::hf};

Routing routing_of(const Tensor& scores, int64_t top_k) { return route(scores, {}, top_k, Weighting::after_top_k); }

// Token t prefers expert t most, expert t + 1 next and so on: load and mean probability are even.
Array balanced_scores(int64_t tokens, int64_t experts) {
  Numbers z;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t e = 0; e < experts; ++e)
      z.push_back(-0.7 * static_cast<double>((e - t % experts + experts) % experts));
  return Array::from(z, {tokens, experts}, current_device());
}

DEVICE_TEST_CASE("the balance loss at perfect balance: switch 1, hf top_k") {
  for (const int64_t experts : {1, 4, 7})
    for (int64_t top_k = 1; top_k <= experts; ++top_k)
      for (const size_t layers : {size_t{1}, size_t{3}}) {
        const std::vector<Routing> routings(layers, routing_of(Tensor(balanced_scores(3 * experts, experts)), top_k));
        CHECK(balance_loss(routings).item() == doctest::Approx(1).epsilon(1e-14));
        CHECK(balance_loss(routings, BalanceNormalization::hf).item() ==
              doctest::Approx(static_cast<double>(top_k)).epsilon(1e-14));
      }
  // All tokens to one expert with certainty: the worst, `experts`.
  Numbers z;
  for (int t = 0; t < 5; ++t) z.insert(z.end(), {900, 0, 0, 0});
  const std::vector<Routing> collapsed{routing_of(Tensor(Array::from(z, {5, 4}, current_device())), 1)};
  for (const auto normalization : normalizations)
    CHECK(balance_loss(collapsed, normalization).item() == doctest::Approx(4));
}

DEVICE_TEST_CASE("the balance loss equals its formula in plain loops") {
  const int64_t tokens = 11, experts = 5, top_k = 2;
  std::vector<Routing> layers;
  for (uint64_t l = 0; l < 3; ++l) layers.push_back(routing_of(Tensor(random({tokens, experts}, l, 2)), top_k));
  double switch_loss = 0, z_total = 0;
  Numbers joined_f(5), joined_p(5);
  for (const Routing& layer : layers) {
    const Numbers z = layer.scores.to_vector<double>();
    const std::vector<int32_t> chosen = layer.chosen.to_vector<int32_t>();
    for (size_t e = 0; e < 5; ++e) {
      double probability = 0;
      for (size_t t = 0; t < 11; ++t) {
        double total = 0;
        for (size_t k = 0; k < 5; ++k) total += std::exp(z[5 * t + k]);
        probability += std::exp(z[5 * t + e]) / total / 11;
        if (e == 0) z_total += std::pow(std::log(total), 2) / 33;
      }
      const auto count = static_cast<double>(std::count(chosen.begin(), chosen.end(), static_cast<int32_t>(e)));
      switch_loss += 5 * (count / 22) * probability / 3;
      joined_f[e] += count / 33, joined_p[e] += probability / 3;
    }
  }
  double hf = 0;
  for (size_t e = 0; e < 5; ++e) hf += 5 * joined_f[e] * joined_p[e];
  CHECK(balance_loss(layers).item() == doctest::Approx(switch_loss).epsilon(1e-13));
  CHECK(balance_loss(layers, BalanceNormalization::hf).item() == doctest::Approx(hf).epsilon(1e-13));
  CHECK(z_loss(layers).item() == doctest::Approx(z_total).epsilon(1e-13));
}

DEVICE_TEST_CASE("the hf balance loss equals transformers' load_balancing_loss_func, value and gradients") {
  const Fixture fixture("routers.safetensors");
  for (const int64_t top_k : {1, 3}) {
    const std::string at = fmt::format("balance.top{}.", top_k);
    std::vector<Tensor> scores;
    std::vector<Routing> layers;
    for (int i = 0; i < 4; ++i) {
      scores.push_back(leaf(fixture[fmt::format("{}scores{}", at, i)]));
      layers.push_back(routing_of(scores.back(), top_k));
    }
    const Tensor loss = balance_loss(layers, BalanceNormalization::hf);
    CHECK(loss.item() == doctest::Approx(fixture[at + "loss"].item()).epsilon(1e-6));  // transformers sums in f32
    loss.backward();
    for (size_t i = 0; i < 4; ++i)
      CHECK(difference(scores[i].grad(), fixture[fmt::format("{}dscores{}", at, i)]) < 1e-12);
  }
}

DEVICE_TEST_CASE("gradients of balance and z-loss agree with differences, the selection held fixed") {
  for (const auto& [tokens, experts, top_k] : {std::tuple<int64_t, int64_t, int64_t>(6, 4, 2), {1, 1, 1}, {40, 9, 3}})
    for (const auto normalization : normalizations) {
      INFO(fmt::format("{} {} {}", tokens, experts, name_of(normalization)));
      std::vector<Tensor> inputs;
      for (uint64_t l = 0; l < 2; ++l) inputs.push_back(leaf(random({tokens, experts}, l + 5, 2)));
      std::vector<Array> chosen;
      for (const Tensor& z : inputs) chosen.push_back(top_k == 0 ? Array() : moxie::top_k(z.detach(), top_k).indices);
      const auto layers = [&](std::span<const Tensor> z) {
        std::vector<Routing> result;
        for (size_t l = 0; l < z.size(); ++l)
          result.push_back(make_routing(z[l], Tensor::full({tokens, top_k}, 1.0, {Dtype::f64, current_device()}),
                                        chosen[l], experts));
        return result;
      };
      check_gradients([&](std::span<const Tensor> z) { return balance_loss(layers(z), normalization); }, inputs);
      check_gradients([&](std::span<const Tensor> z) { return z_loss(layers(z)); }, inputs);
    }
}

DEVICE_TEST_CASE("balance and z-loss in f32 are near f64, for large scores too") {
  for (const double scale : {1.0, 50.0, 500.0}) {
    const Tensor exact = leaf(random({30, 8}, 1, scale)), rounded = leaf(exact.value().to(Dtype::f32));
    for (const Tensor& z : {exact, rounded}) {
      const std::vector<Routing> layers{routing_of(z, 2)};
      (balance_loss(layers) + 0.01 * z_loss(layers)).backward();
    }
    CHECK(difference(rounded.grad(), exact.grad()) < 1e-4);
  }
}

DEVICE_TEST_CASE("no layers and no tokens give 0") {
  const std::vector<Routing> none, empty{routing_of(leaf(random({0, 4}, 1)), 2)};
  for (const auto& layers : {none, empty}) {
    for (const auto normalization : normalizations) CHECK(balance_loss(layers, normalization).item() == 0);
    CHECK(z_loss(layers).item() == 0);
  }
  CHECK(balance_loss(empty).dtype() == Dtype::f64);
  const Tensor scores = leaf(random({0, 4}, 1));
  weighted_share(scores, random({4}, 2)).backward();
  CHECK(scores.grad().shape() == Shape({0, 4}));
}

DEVICE_TEST_CASE("names of balance normalizations come and go") {
  for (const auto normalization : normalizations) CHECK(balance_from_name(name_of(normalization)) == normalization);
}

}  // namespace
}  // namespace moxie::moe
