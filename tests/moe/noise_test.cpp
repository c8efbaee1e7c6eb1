// SPDX-License-Identifier: Apache-2.0
// Router noise, op by op: formulas, statistics, gradients, keys. Its place in a layer and a model:
// noise_model_test.cpp.
#include "moe/noise.h"

#include <numbers>

#include "core/storage.h"
#include "moe/router.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

const TokenKey at{.key = {.seed = 3, .stream = 20, .step = 4}, .first_token = 5};

struct Statistics {
  double mean = 0, deviation = 0, smallest = HUGE_VAL, largest = -HUGE_VAL;
};
Statistics statistics_of(const Numbers& values) {
  Statistics s;
  for (const double v : values) {
    s.mean += v / static_cast<double>(values.size());
    s.smallest = std::min(s.smallest, v), s.largest = std::max(s.largest, v);
  }
  for (const double v : values) s.deviation += (v - s.mean) * (v - s.mean) / static_cast<double>(values.size());
  s.deviation = std::sqrt(s.deviation);
  return s;
}

// y of [rows, cols] where element i of token t is f(x, draw number (5 + t) * cols + i).
template <class F> Array expected(const Array& x, F&& f) {
  Numbers values = x.to_vector<double>();
  const auto first = static_cast<uint64_t>(at.first_token * x.shape()[1]);
  for (size_t i = 0; i < values.size(); ++i) values[i] = f(values[i], first + i, i);
  return Array::from(values, x.shape(), current_device());
}

DEVICE_TEST_CASE("noise equals its formula on the draws of the token's place") {
  for (const auto& [tokens, cols] : {std::pair<int64_t, int64_t>(1, 1), {3, 5}, {7, 8}, {130, 33}, {600, 16}}) {
    INFO(tokens, " ", cols);
    const Array x = random({tokens, cols}, 1), raw = random({tokens, cols}, 2, 2);
    const Array bounded = expected(x, [](double v, uint64_t n, size_t) {
      return v * (1 + 0.3 * static_cast<double>(2 * uniform_at(at.key, n) - 1));
    });
    const Array gaussian =
        expected(x, [](double v, uint64_t n, size_t) { return v + 0.3 * static_cast<double>(normal_at(at.key, n)); });
    const Array gumbel = expected(x, [](double v, uint64_t n, size_t) {
      return v - 0.3 * std::log(-std::log(static_cast<double>(uniform_at(at.key, n))));
    });
    const Numbers r = raw.to_vector<double>();
    const Array learned = expected(x, [&](double v, uint64_t n, size_t i) {
      return v + 0.3 * std::log1p(std::exp(r[i])) * static_cast<double>(normal_at(at.key, n));
    });
    poison_new_memory(true);
    CHECK(difference(bounded_noise(Tensor(x), 0.3, at).value(), bounded) < 1e-14);
    // The draws are made in f32, where the compiler may join a product and a sum.
    CHECK(difference(gaussian_noise(Tensor(x), 0.3, at).value(), gaussian) < 3e-7);
    CHECK(difference(gumbel_noise(Tensor(x), 0.3, at).value(), gumbel) < 1e-6);
    CHECK(difference(learned_noise(Tensor(x), Tensor(raw), 0.3, at).value(), learned) < 3e-7);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
      CHECK(difference(bounded_noise(Tensor(x.to(dtype)), 0.3, at).value(), bounded) <
            (dtype == Dtype::f32 ? 1e-6 : 0.008));
    const Array narrow = x.to(Dtype::f32);
    CHECK(difference(gaussian_noise(Tensor(narrow), 0.3, at).value(), gaussian) < 1e-6);
    CHECK(difference(gumbel_noise(Tensor(narrow), 0.3, at).value(), gumbel) < 1e-6);
    CHECK(difference(learned_noise(Tensor(narrow), Tensor(raw.to(Dtype::f32)), 0.3, at).value(), learned) < 1e-6);
    poison_new_memory(false);
  }
}

DEVICE_TEST_CASE("mean, deviation and bounds of the draws") {
  const int64_t tokens = 10000, cols = 16, count = tokens * cols;
  const double error = 4 / std::sqrt(static_cast<double>(count));  // of a mean, in deviations: four of its own
  const Array zeros = Array::zeros({tokens, cols}, {Dtype::f64, current_device()}),
              ones = Array::full({tokens, cols}, 1.0, {Dtype::f64, current_device()});
  const Statistics bounded = statistics_of(bounded_noise(Tensor(ones), 0.2, at).to_vector<double>());
  CHECK(std::abs(bounded.mean - 1) < error * 0.2 / std::sqrt(3));
  CHECK(bounded.deviation == doctest::Approx(0.2 / std::sqrt(3)).epsilon(0.01));
  CHECK((bounded.smallest > 0.8 && bounded.smallest < 0.8001));
  CHECK((bounded.largest < 1.2 && bounded.largest > 1.1999));
  const Statistics gaussian = statistics_of(gaussian_noise(Tensor(zeros), 0.2, at).to_vector<double>());
  CHECK(std::abs(gaussian.mean) < error * 0.2);
  CHECK(gaussian.deviation == doctest::Approx(0.2).epsilon(0.01));
  const Statistics gumbel = statistics_of(gumbel_noise(Tensor(zeros), 2, at).to_vector<double>());
  const double gumbel_deviation = 2 * std::numbers::pi / std::sqrt(6);
  CHECK(std::abs(gumbel.mean - 2 * std::numbers::egamma) < error * gumbel_deviation);
  CHECK(gumbel.deviation == doctest::Approx(gumbel_deviation).epsilon(0.01));
  CHECK(gumbel.smallest > -2 * 3);  // -log(24 log 2)
  const Array raw = Array::full({tokens, cols}, 1.5, {Dtype::f64, current_device()});
  const Statistics learned = statistics_of(learned_noise(Tensor(zeros), Tensor(raw), 0.5, at).to_vector<double>());
  const double learned_deviation = 0.5 * std::log1p(std::exp(1.5));
  CHECK(std::abs(learned.mean) < error * learned_deviation);
  CHECK(learned.deviation == doctest::Approx(learned_deviation).epsilon(0.01));
}

DEVICE_TEST_CASE("the best of scores with Gumbel noise is a draw from their softmax") {
  const Numbers z{1, 0.2, -0.5, 0.7};
  const int64_t tokens = 20000;
  Numbers many;
  for (int64_t t = 0; t < tokens; ++t) many.insert(many.end(), z.begin(), z.end());
  const Tensor scores(Array::from(many, {tokens, 4}, current_device()));
  for (const double scale : {0.5, 1.0, 2.0}) {
    const Routing routing = route(scores, {}, 1, Weighting::after_top_k, gumbel_noise(scores, scale, at));
    double total = 0;
    for (const double v : z) total += std::exp(v / scale);
    for (size_t e = 0; e < 4; ++e) {
      const double p = std::exp(z[e] / scale) / total, share = static_cast<double>(routing.load()[e]) / 20000;
      CHECK(std::abs(share - p) < 4 * std::sqrt(p * (1 - p) / 20000));
    }
  }
}

DEVICE_TEST_CASE("gradients of noise agree with differences, the draws held fixed") {
  for (const auto& [tokens, cols] : {std::pair<int64_t, int64_t>(0, 4), {1, 1}, {6, 5}, {40, 9}}) {
    const Array x = random({tokens, cols}, 1), raw = random({tokens, cols}, 2, 2);
    check_gradients([](std::span<const Tensor> in) { return bounded_noise(in[0], 0.7, at); }, {leaf(x)});
    check_gradients([](std::span<const Tensor> in) { return gaussian_noise(in[0], 0.7, at); }, {leaf(x)});
    check_gradients([](std::span<const Tensor> in) { return gumbel_noise(in[0], 0.7, at); }, {leaf(x)});
    check_gradients([](std::span<const Tensor> in) { return learned_noise(in[0], in[1], 0.7, at); },
                    {leaf(x), leaf(raw)});
    check_gradients([&](std::span<const Tensor> in) { return learned_noise(Tensor(x), in[0], 0.7, at); }, {leaf(raw)});
  }
}

DEVICE_TEST_CASE("learned noise gives every place the gradient of its own draw, however many there are") {
  const Array raw = random({600, 16}, 2, 2), dy = random({600, 16}, 3);
  const Tensor in = leaf(raw);
  learned_noise(Tensor(random({600, 16}, 1)), in, 0.3, at).backward(dy);
  const Numbers r = raw.to_vector<double>();
  const Array wanted = expected(dy, [&](double g, uint64_t n, size_t i) {
    return g * 0.3 / (1 + std::exp(-r[i])) * static_cast<double>(normal_at(at.key, n));
  });
  CHECK(difference(in.grad(), wanted) < 3e-7);
}

DEVICE_TEST_CASE("a part of a batch draws what it draws in the whole") {
  const Array x = random({20, 6}, 1, 1, Dtype::f32), raw = random({20, 6}, 2, 1, Dtype::f32);
  const TokenKey whole{at.key, 0};
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>(0, 20), {0, 7}, {7, 13}, {19, 1}}) {
    const TokenKey part{at.key, first};
    const Tensor rows(x.rows(first, count)), raws(raw.rows(first, count));
    const auto same = [first, count](const Tensor& a, const Tensor& b) {
      return same_bits(a.value(), b.value().rows(first, count));
    };
    CHECK(same(bounded_noise(rows, 0.1, part), bounded_noise(Tensor(x), 0.1, whole)));
    CHECK(same(gaussian_noise(rows, 0.1, part), gaussian_noise(Tensor(x), 0.1, whole)));
    CHECK(same(gumbel_noise(rows, 0.1, part), gumbel_noise(Tensor(x), 0.1, whole)));
    CHECK(same(learned_noise(rows, raws, 0.1, part), learned_noise(Tensor(x), Tensor(raw), 0.1, whole)));
  }
}

DEVICE_TEST_CASE("noise is the same for the same key, and another for another seed, stream or step") {
  const Tensor x(random({9, 7}, 1));
  const auto draw = [&](TokenKey key) { return gaussian_noise(x, 1, key).value(); };
  CHECK(same_bits(draw(at), draw(at)));
  TokenKey seed = at, stream = at, step = at, place = at;
  seed.key.seed = 9, stream.key.stream = 9, step.key.step = 9, place.first_token = 6;
  for (const TokenKey& other : {seed, stream, step, place}) CHECK(difference(draw(other), draw(at)) > 0.1);
  // What a context's key consists of: not of the micro-batch, whose place says it all.
  nn::Context context{.training = true, .seed = 1, .step = 2, .layer = 3, .micro_batch = 0, .first_token = 0};
  const RandomKey key = router_noise_key(context).key;
  context.micro_batch = 2, context.first_token = 30;
  CHECK(router_noise_key(context).key.stream == key.stream);
  CHECK(router_noise_key(context).first_token == 30);
  CHECK(router_noise_key(context.at_layer(4)).key.stream != key.stream);
}

DEVICE_TEST_CASE("noise gives the same bits for one, two and three threads") {
  const Array x = random({3000, 40}, 1, 1, Dtype::f32), raw = random({3000, 40}, 2, 1, Dtype::f32);
  const int before = threads();
  std::vector<std::vector<Array>> results;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    const Tensor a = leaf(x), b = leaf(raw);
    const Tensor y = learned_noise(gumbel_noise(gaussian_noise(bounded_noise(a, 0.1, at), 0.1, at), 0.1, at), b, 1, at);
    y.backward(raw);
    results.push_back({y.value(), a.grad(), b.grad()});
  }
  set_threads(before);
  for (const std::vector<Array>& result : results)
    for (size_t i = 0; i < result.size(); ++i) CHECK(same_bits(result[i], results[0][i]));
}

DEVICE_TEST_CASE("names of noise come and go, and a run names its noise") {
  for (const char* name : {"none", "jitter", "jitter_shared", "gaussian", "gumbel", "learned", "multiplicative"})
    CHECK(std::string(name_of(noise_kind_from_name(name))) == name);
  const auto said = [](const NoiseOptions& noise) { return describe({.noise = noise}); };
  const auto ends = [](const std::string& text, const std::string& end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
  };
  CHECK(ends(said({}), ", no noise"));
  CHECK(ends(said({.kind = NoiseKind::jitter, .scale = 0.01}), ", noise jitter 0.01"));
  CHECK(ends(said({.kind = NoiseKind::gumbel, .scale = 1, .selection_only = true}),
             ", noise gumbel 1 on the selection only"));
}

}  // namespace
}  // namespace moxie::moe
