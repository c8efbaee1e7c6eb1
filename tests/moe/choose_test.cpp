// SPDX-License-Identifier: Apache-2.0
// moe/choose.h: one kernel instead of top_k, gather, add and softmax.
#include "moe/choose.h"

#include "moe/cosine_scores.h"
#include "nn/module.h"
#include "tests/moe/support.h"

using namespace moxie;
using namespace moxie::moe;
using namespace moxie::testing;

namespace {

// The same by ops.
Choice composed(const Tensor& seen, const Tensor& weighed, const Tensor& bias, int64_t k, bool over_all) {
  const Array chosen = top_k(seen.detach(), k).indices;
  if (over_all) return {gather(softmax(bias.defined() ? weighed + bias : weighed), -1, chosen), chosen};
  Tensor logits = gather(weighed, -1, chosen);
  if (bias.defined()) logits = logits + reshape(embedding(reshape(bias, {bias.numel(), 1}), chosen), {seen.dim(0), k});
  return {softmax(logits), chosen};
}

struct Case {
  int64_t tokens, experts, top_k;
};
const std::vector<Case> cases = {{1, 1, 1}, {0, 4, 2}, {5, 4, 4}, {7, 31, 2}, {33, 33, 8}, {9, 64, 1}, {300, 16, 3}};

struct Outcome {
  Array weights, experts, dweighed, dbias;
};

using Choose = Choice (*)(const Tensor&, const Tensor&, const Tensor&, int64_t, bool);

Outcome outcome(Choose choose, const Case& c, Dtype dtype, bool over_all, bool with_bias, bool own_selection) {
  const Tensor weighed = leaf(random({c.tokens, c.experts}, 1, 1, dtype));
  const Tensor bias = with_bias ? leaf(random({c.experts}, 2, 1, dtype)) : Tensor();
  const Tensor seen = own_selection ? Tensor(random({c.tokens, c.experts}, 3, 1, dtype)) : weighed;
  // The gradient of the scores is there already, as the balance loss leaves it.
  weighed.backward(random({c.tokens, c.experts}, 5, 1, dtype));
  const Choice choice = choose(seen, weighed, bias, c.top_k, over_all);
  choice.weights.backward(random({c.tokens, c.top_k}, 4, 1, dtype));
  return {choice.weights.value(), choice.experts, weighed.grad(), with_bias ? bias.grad() : Array()};
}

}  // namespace

DEVICE_TEST_CASE("choose_experts equals its composition of ops") {
  for (const Case& c : cases)
    for (const Dtype dtype : {Dtype::f64, Dtype::f32})
      for (int flags = 0; flags < 8; ++flags) {
        const bool over_all = (flags & 1) != 0, with_bias = (flags & 2) != 0, own = (flags & 4) != 0;
        INFO(c.tokens, " tokens, ", c.top_k, " of ", c.experts, " ", name_of(dtype), " flags ", flags);
        const Outcome got = outcome(choose_experts, c, dtype, over_all, with_bias, own),
                      wanted = outcome(composed, c, dtype, over_all, with_bias, own);
        const double tolerance = dtype == Dtype::f64 ? 1e-14 : 2e-6;
        CHECK(same_bits(got.experts, wanted.experts));
        // A GPU's kernel for softmax has an exponential of its own.
        if (current_device().is_cpu()) CHECK(same_bits(got.weights, wanted.weights));
        CHECK(difference(got.weights, wanted.weights, 1) <= tolerance);
        CHECK(difference(got.dweighed, wanted.dweighed, 1) <= tolerance);
        if (with_bias) CHECK(difference(got.dbias, wanted.dbias, 1) <= 4 * tolerance);
      }
}

DEVICE_TEST_CASE("choose_experts: ties go to the lowest expert, NaN and minus infinity come last") {
  constexpr double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor scores(Array::from(Numbers{1, 2, 2, 1, 0, 0, 0, 0, -inf, nan, 3, -inf}, {3, 4}, current_device()));
  CHECK(choose_experts(scores, scores, {}, 3, false).experts.to_vector<int32_t>() ==
        std::vector<int32_t>{1, 2, 0, 0, 1, 2, 2, 0, 3});
}

DEVICE_TEST_CASE("choose_experts: gradients") {
  const Array seen = Array::from(shuffled_ranks(6, 5, 1), {6, 5}, current_device());
  for (const bool over_all : {false, true})
    for (const bool with_bias : {false, true}) {
      std::vector<Tensor> inputs{leaf(random({6, 5}, 2))};
      if (with_bias) inputs.push_back(leaf(random({5}, 3)));
      check_gradients(
          [&](std::span<const Tensor> x) {
            return choose_experts(Tensor(seen), x[0], with_bias ? x[1] : Tensor(), 2, over_all).weights;
          },
          inputs);
    }
}

DEVICE_TEST_CASE("choose_experts: the bias alone gets the gradient that it gets beside the scores") {
  const Array scores = random({6, 5}, 2), cotangent = random({6, 2}, 4);
  const Tensor weighed = leaf(scores), beside = leaf(random({5}, 3)), alone = leaf(random({5}, 3));
  choose_experts(weighed, weighed, beside, 2, false).weights.backward(cotangent);
  choose_experts(Tensor(scores), Tensor(scores), alone, 2, false).weights.backward(cotangent);
  CHECK_FALSE(all_zero(alone.grad()));
  CHECK(same_bits(alone.grad(), beside.grad()));
}

DEVICE_TEST_CASE("cosine_choice is cosine_scores and choose_experts") {
  const CosineOptions options{.tau_expert = 0.1, .tau_token = 0.3, .scale = 1.7};
  for (const Case& c : cases)
    for (const Dtype dtype : {Dtype::f64, Dtype::f32})
      for (int flags = 0; flags < 8; ++flags) {
        const bool over_all = (flags & 1) != 0, with_bias = (flags & 2) != 0, scores_too = (flags & 4) != 0;
        INFO(c.tokens, " tokens, ", c.top_k, " of ", c.experts, " ", name_of(dtype), " flags ", flags);
        const auto run = [&](bool at_once) {
          const Tensor x = leaf(random({c.tokens, 6}, 1, 1, dtype)), weight = leaf(random({c.experts, 6}, 2, 1, dtype));
          const Tensor bias = with_bias ? leaf(random({c.experts}, 3, 1, dtype)) : Tensor();
          ScoredChoice made;
          if (at_once) {
            made = cosine_choice(x, weight, options, bias, c.top_k, over_all);
          } else {
            made.scores = cosine_scores(x, weight, options.tau_expert, options.tau_token, options.scale);
            made.choice = choose_experts(made.scores, made.scores, bias, c.top_k, over_all);
          }
          Tensor loss = sum(made.choice.weights * Tensor(random({c.tokens, c.top_k}, 4, 1, dtype)));
          if (scores_too) loss = loss + sum(made.scores * Tensor(random({c.tokens, c.experts}, 5, 1, dtype)));
          loss.backward();
          return std::vector<Array>{made.scores.value(), made.choice.weights.value(),
                                    made.choice.experts, x.grad(),
                                    weight.grad(),       with_bias ? bias.grad() : Array()};
        };
        const std::vector<Array> got = run(true), wanted = run(false);
        for (size_t i = 0; i < 3; ++i) CHECK(same_bits(got[i], wanted[i]));
        const double tolerance = dtype == Dtype::f64 ? 1e-14 : 4e-6;
        for (size_t i = 3; i < 6; ++i)
          if (got[i].defined()) CHECK(difference(got[i], wanted[i], 1) <= tolerance);
      }
}

DEVICE_TEST_CASE("cosine_choice: gradients") {
  for (const bool over_all : {false, true}) {
    // Scores far enough apart that small steps choose the same experts.
    const std::vector<Tensor> inputs{leaf(random({6, 4}, 2)), leaf(random({5, 4}, 3)), leaf(random({5}, 4))};
    for (const bool of_scores : {false, true})
      check_gradients(
          [&](std::span<const Tensor> x) {
            const ScoredChoice made = cosine_choice(x[0], x[1], {0.1, 0.2, 1.3}, x[2], 2, over_all);
            return of_scores ? made.scores * sum(made.choice.weights * made.choice.weights, 1, true)
                             : made.choice.weights;
          },
          inputs, {.step = 1e-4});
  }
}

DEVICE_TEST_CASE("cosine_choice: errors") {
  const auto zeros = [](const Shape& shape, Dtype dtype = Dtype::f32) {
    return Tensor::zeros(shape, {dtype, current_device()});
  };
  const Tensor x = zeros({3, 4}), weight = zeros({5, 4});
  CHECK(message_of([&] { cosine_choice(x, weight, {}, {}, 6, false); }) ==
        "cosine_choice: top_k must be between 1 and experts, got top_k = 6, experts = 5");
  CHECK(message_of([&] { cosine_choice(x, weight, {}, zeros({4}), 1, false); }) ==
        "cosine_choice: bias must be [experts = 5], got [4]");
  CHECK(message_of([&] { cosine_choice(x, weight, {.tau_token = -1}, {}, 1, false); }) ==
        "cosine_choice: tau must not be negative, got tau_expert = 0, tau_token = -1");
}

DEVICE_TEST_CASE("choose_experts: errors") {
  const auto zeros = [](const Shape& shape, Dtype dtype = Dtype::f32) {
    return Tensor::zeros(shape, {dtype, current_device()});
  };
  const Tensor x = zeros({3, 4});
  CHECK(message_of([&] {
          choose_experts(x, zeros({3, 5}), {}, 1, false);
        }) == "choose_experts: seen and weighed must both be [tokens, experts], got [3, 4] and [3, 5]");
  CHECK(message_of([&] {
          choose_experts(zeros({3, 4}, Dtype::bf16), zeros({3, 4}, Dtype::bf16), {}, 1, false);
        }) == "choose_experts: scores must be f32 or f64, got bf16");
  CHECK(message_of([&] { choose_experts(x, x, {}, 5, false); }) ==
        "choose_experts: top_k must be between 1 and experts, got top_k = 5, experts = 4");
  CHECK(message_of([&] { choose_experts(x, x, zeros({3}), 1, false); }) ==
        "choose_experts: bias must be [experts = 4], got [3]");
}
