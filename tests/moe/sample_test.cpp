// SPDX-License-Identifier: Apache-2.0
// Drawing tokens, and generation with the cache against the whole forward pass.
#include "moe/sample.h"

#include "moe/sample_window.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

// How often each token is drawn for u spread evenly over (0, 1).
Numbers frequencies(const std::vector<float>& logits, const SampleOptions& options) {
  Numbers counts(logits.size());
  const int draws = 10000;
  for (int i = 0; i < draws; ++i)
    counts[static_cast<size_t>(draw_token(logits, options, (i + 0.5) / draws))] += 1.0 / draws;
  return counts;
}

void check_near(const Numbers& got, const Numbers& wanted) {
  REQUIRE(got.size() == wanted.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(wanted[i]).epsilon(0.002));
}

DEVICE_TEST_CASE("draw_token follows the softmax, temperature, top k and top p") {
  const std::vector<float> logits{std::log(0.2f), std::log(0.5f), std::log(0.05f), std::log(0.25f)};
  check_near(frequencies(logits, {}), {0.2, 0.5, 0.05, 0.25});
  check_near(frequencies(logits, {.temperature = 0}), {0, 1, 0, 0});
  const double total = 0.04 + 0.25 + 0.0025 + 0.0625;
  check_near(frequencies(logits, {.temperature = 0.5}), {0.04 / total, 0.25 / total, 0.0025 / total, 0.0625 / total});
  check_near(frequencies(logits, {.top_k = 2}), {0, 2 / 3.0, 0, 1 / 3.0});
  check_near(frequencies(logits, {.top_k = 1}), {0, 1, 0, 0});
  check_near(frequencies(logits, {.top_k = 9}), {0.2, 0.5, 0.05, 0.25});
  check_near(frequencies(logits, {.top_p = 0.4}), {0, 1, 0, 0});
  check_near(frequencies(logits, {.top_p = 0.6}), {0, 2 / 3.0, 0, 1 / 3.0});
  check_near(frequencies(logits, {.top_p = 0.9}), {0.2 / 0.95, 0.5 / 0.95, 0, 0.25 / 0.95});
  check_near(frequencies({2, 2, 2, 2}, {.top_p = 0.5}), {0.5, 0.5, 0, 0});  // what reaches p is enough
  // Top p is a share of what top k left.
  check_near(frequencies(logits, {.top_k = 3, .top_p = 0.53}), {0, 2 / 3.0, 0, 1 / 3.0});
  // Equal logits: the lowest token first; impossible tokens never; large logits don't overflow.
  CHECK(draw_token(std::vector<float>{1, 3, 3}, {.temperature = 0}, 0.5) == 1);
  check_near(frequencies({-INFINITY, 0, -INFINITY}, {}), {0, 1, 0});
  check_near(frequencies({3e38f, -3e38f}, {.temperature = 1e-3}), {1, 0});
}

LanguageModelOptions small_options() {
  LanguageModelOptions options{.vocabulary = 19,
                               .layers = 3,
                               .width = 16,
                               .heads = 4,
                               .kv_heads = 2,
                               .qk_norm = nn::QkNorm::per_head,
                               .dense_layers = 1};
  options.moe = {.router = {.experts = 4, .top_k = 2}, .hidden = 12};
  return options;
}

// A model whose logits are far from even, so that its tokens depend on what came before.
LanguageModel sharp_model() {
  LanguageModel model(small_options(), 3, current_device());
  model.head.set_value((Tensor(model.head.value()) * 4.0).value());
  model.embedding.weight.set_value((Tensor(model.embedding.weight.value()) * 50.0).value());
  return model;
}

DEVICE_TEST_CASE("logits with the cache, in pieces of any size, equal the whole forward pass") {
  LanguageModel model = sharp_model();
  nn::to(model, Dtype::f64);
  const NoGrad guard;
  const std::vector<int32_t> tokens{3, 1, 4, 15, 9, 2, 6, 5, 3, 5, 18};
  nn::Context context{.dtype = Dtype::f64};
  const Tensor whole = model(integers(tokens, {1, 11}), context);
  for (const std::vector<int64_t>& pieces :
       {std::vector<int64_t>{11}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {5, 1, 4, 1}}) {
    std::vector<nn::KeyValueCache> caches(model.blocks.size());
    context.first_position = 0;
    for (const int64_t count : pieces) {
      const auto first = tokens.begin() + context.first_position;
      const Tensor part = model(integers({first, first + count}, {1, count}), context, &caches);
      CHECK(difference(part, slice(whole, 1, context.first_position, count)) < 1e-13);
      context.first_position += count;
    }
  }
}

DEVICE_TEST_CASE("sampling equals drawing from the whole forward pass each time") {
  const LanguageModel model = sharp_model();
  for (const double temperature : {0.0, 0.8}) {
    const SampleOptions options{.tokens = 14, .temperature = temperature, .top_k = 12, .top_p = 0.95, .seed = 4};
    const std::vector<int32_t> prompt{7, 3, 11};
    const std::vector<int32_t> generated = sample(model, prompt, options);
    REQUIRE(generated.size() == 14);
    std::vector<int32_t> text = prompt;
    const RandomKey key = nn::Context{.seed = 4}.key(nn::Purpose::sample);
    const NoGrad guard;
    for (uint64_t i = 0; i < 14; ++i) {
      const auto length = static_cast<int64_t>(text.size());
      const std::vector<float> last =
          slice(model(integers(text, {1, length}), {}), 1, length - 1, 1).to_vector<float>();
      text.push_back(draw_token(last, options, static_cast<double>(uniform_at(key, i))));
      CHECK(generated[i] == text.back());
    }
  }
}

DEVICE_TEST_CASE("sampling is a function of its seed, and can be ended") {
  const LanguageModel model = sharp_model();
  const std::vector<int32_t> prompt{7};
  const auto text = [&](uint64_t seed) { return sample(model, prompt, {.tokens = 30, .seed = seed}); };
  CHECK(text(1) == text(1));
  CHECK(text(1) != text(2));
  std::vector<int32_t> seen;
  const std::vector<int32_t> ended = sample(model, prompt, {.tokens = 30, .seed = 1}, [&](int32_t token) {
    seen.push_back(token);
    return seen.size() < 5;
  });
  CHECK(ended.size() == 5);
  CHECK(ended == seen);
  CHECK(sample(model, prompt, {.tokens = 0}).empty());
  for (const nn::NamedParameter& named : nn::parameters(model)) CHECK_FALSE(named.parameter.grad().defined());
}

DEVICE_TEST_CASE("a window: as sampling while the context lasts, then from its last half") {
  const LanguageModel model = sharp_model();
  const std::vector<int32_t> prompt{7, 3, 11};
  const SampleOptions options{.tokens = 40, .seed = 5};
  CHECK(sample_window(model, prompt, options, 100) == sample(model, prompt, options));
  const std::vector<int32_t> all = sample_window(model, prompt, options, 8);
  REQUIRE(all.size() == 40);
  // The first part fills the context of 8 and draws one more; the next starts from the last 4 tokens.
  std::vector<int32_t> text = prompt;
  const std::vector<int32_t> first = sample(model, prompt, {.tokens = 6, .seed = 5});
  text.insert(text.end(), first.begin(), first.end());
  CHECK(std::equal(text.begin() + 3, text.end(), all.begin()));
  const std::vector<int32_t> next =
      sample(model, std::span(text).last(4), {.tokens = 5, .seed = 5 + 0x9E3779B97F4A7C15});
  CHECK(std::equal(next.begin(), next.end(), all.begin() + 6));
  // A context of 1 and a prompt longer than the context work; generation ends where it is told to.
  CHECK(sample_window(model, prompt, options, 1).size() == 40);
  CHECK(sample_window(model, prompt, {.tokens = 2}, 2).size() == 2);
  CHECK(sample_window(model, prompt, {.tokens = 0}, 2).empty());
  int seen = 0;
  CHECK(sample_window(model, prompt, options, 8, [&](int32_t) { return ++seen < 9; }).size() == 9);
}

}  // namespace
}  // namespace moxie::moe
