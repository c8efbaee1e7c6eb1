// SPDX-License-Identifier: Apache-2.0
// linear_cross_entropy of autograd/ops/loss.h
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/ops/errors.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

struct Case {
  Shape x;  // [.., width]
  int64_t classes;
  bool ignore;          // every third target
  int64_t logit_bytes;  // at once
};

std::vector<int32_t> targets_of(const Case& c) {
  std::vector<int32_t> targets = random_indices(c.x.without(c.x.rank() - 1), c.classes).to_vector<int32_t>();
  for (size_t i = 0; c.ignore && i < targets.size(); i += 3) targets[i] = -100;
  return targets;
}

// -log softmax(x W^T)[target], row by row
Numbers reference(const Case& c, const std::vector<int32_t>& targets, std::span<const Numbers> inputs) {
  const Numbers &x = inputs[0], &weight = inputs[1];
  const int64_t width = c.x.cols();
  Numbers y{Shape{}};
  double count = 0;
  for (size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] < 0) continue;
    double total = 0, wanted = 0;
    for (int64_t k = 0; k < c.classes; ++k) {
      double z = 0;
      for (int64_t i = 0; i < width; ++i) z += x[static_cast<int64_t>(row) * width + i] * weight[k * width + i];
      total += std::exp(z);
      if (k == targets[row]) wanted = z;
    }
    y[0] += std::log(total) - wanted;
    ++count;
  }
  if (count > 0) y[0] /= count;
  return y;
}

double small(double normal, double) { return normal / 4; }

}  // namespace

TEST_CASE("linear_cross_entropy") {
  constexpr int64_t all = linear_cross_entropy_bytes;
  for (const Case& c :
       {Case{{5}, 3, false, all}, Case{{1, 1}, 1, false, all}, Case{{0, 4}, 3, false, all}, Case{{4, 3}, 5, false, all},
        Case{{7, 3}, 5, true, 1}, Case{{6, 3}, 5, false, 1}, Case{{2, 3, 4}, 6, true, 200}, Case{{1, 4}, 3, true, all},
        Case{{33, 31}, 17, true, 1000}, Case{{3, 17}, 1025, true, all}, Case{{1023, 3}, 5, false, 6000},
        Case{{300, 8}, 33, true, 150 * 33 * 8}}) {
    const std::vector<int32_t> targets = targets_of(c);
    const Array array = Array::from(targets, c.x.without(c.x.rank() - 1));
    run({.covers = "linear_cross_entropy(Tensor, Tensor, Array, int64_t, int64_t)",
         .name = (c.ignore ? "some ignored, " : "") + std::to_string(c.classes) + " classes",
         .function =
             [=](std::span<const Tensor> x) {
               return linear_cross_entropy(x[0], x[1], array.to(x[0].device()), -100, c.logit_bytes);
             },
         .reference = [=](std::span<const Numbers> x) { return reference(c, targets, x); },
         .inputs = {{c.x}, {{c.classes, c.x.cols()}, small}},
         .tolerances = {.bf16 = 2e-2},
         .dtype_kept = false});
  }
}

TEST_CASE("linear_cross_entropy gives the gradients of its composition, whatever the pieces") {
  const Case c{{40, 24}, 50, true, 0};
  const Array targets = Array::from(targets_of(c), {40});
  const Array numbers = Array::from(std::vector<float>(40 * 24, 0.25f), {40, 24});
  const auto leaf_of = [](const Shape& shape, uint64_t seed) {
    std::vector<double> values(static_cast<size_t>(shape.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(normal_at({.seed = seed}, i)) / 3;
    return Tensor(Array::from(values, shape)).set_requires_grad();
  };
  const auto outcome = [&](const std::function<Tensor(const Tensor&, const Tensor&)>& f) {
    const Tensor x = leaf_of({40, 24}, 1), weight = leaf_of({50, 24}, 2);
    const Tensor loss = f(x, weight);
    (loss * 3).backward();
    return std::vector<std::vector<double>>{
        {loss.item()}, x.grad().to_vector<double>(), weight.grad().to_vector<double>()};
  };
  const auto wanted =
      outcome([&](const Tensor& x, const Tensor& weight) { return cross_entropy(linear(x, weight), targets); });
  for (const int64_t bytes : {int64_t{1}, int64_t{3 * 50 * 8}, int64_t{17 * 50 * 8}, linear_cross_entropy_bytes}) {
    const auto got = outcome(
        [&](const Tensor& x, const Tensor& weight) { return linear_cross_entropy(x, weight, targets, -100, bytes); });
    INFO(bytes, " bytes of logits");
    for (size_t part = 0; part < wanted.size(); ++part)
      for (size_t i = 0; i < wanted[part].size(); ++i)
        CHECK(got[part][i] == doctest::Approx(wanted[part][i]).epsilon(1e-12));
  }
}

TEST_CASE("linear_cross_entropy holds no more logits than it may") {
  const Tensor x = Tensor::zeros({4096, 8}).set_requires_grad(), weight = Tensor::zeros({2048, 8}).set_requires_grad();
  const Array targets = Array::zeros({4096}, {Dtype::i32});
  const auto peak = [&](const auto& f) {
    reset_peak_memory();
    const int64_t before = cpu_memory().live_bytes;
    f();
    return cpu_memory().peak_bytes - before;
  };
  constexpr int64_t logits = 4096 * 2048 * 4;
  CHECK(peak([&] { cross_entropy(linear(x, weight), targets).backward(); }) >= logits);
  CHECK(peak([&] { linear_cross_entropy(x, weight, targets, -100, logits / 16).backward(); }) < logits / 8);
}

TEST_CASE("linear_cross_entropy: errors") {
  const auto call = [](const Shape& x, const Shape& weight, const Array& targets) {
    return [=] { linear_cross_entropy(of(x), of(weight), targets); };
  };
  expect(
      {{call({2, 3}, {5, 4}, indices({0, 0})),
        "linear_cross_entropy: x must be [.., width] and weight [classes, width], got [2, 3] and [5, 4]"},
       {call({2, 3}, {5, 3}, indices({0})),
        "linear_cross_entropy: targets must have x's shape without the last dimension, got x [2, 3] and targets [1]"},
       {call({0, 3}, {0, 3}, indices({})), "linear_cross_entropy: there must be at least one class, got weight [0, 3]"},
       {call({1, 3}, {5, 3}, indices({5})), "linear_cross_entropy: index 5 at position 0 is out of range [0, 5)"},
       {[] {
          const Tensor x(Array::zeros({1, 3}, {Dtype::i32}));
          linear_cross_entropy(x, x, indices({0}));
        },
        "linear_cross_entropy: needs a float dtype (f64, f32 or bf16), got i32"},
       {[] {
          linear_cross_entropy(of({1, 3}), of({5, 3}, Dtype::f64), indices({0}));
        },
        "linear_cross_entropy: x is f32 and weight is f64; convert one with cast"}});
}
