// SPDX-License-Identifier: Apache-2.0
// autograd/gradcheck.h: passes right gradients and fails wrong ones.
#include "autograd/gradcheck.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/ops.h"
#include "autograd/record.h"

using namespace moxie;

namespace {

Tensor leaf(const Shape& shape, uint32_t stream = 0) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<double>(normal_at({.seed = 9, .stream = stream}, i));
  return Tensor(Array::from(values, shape)).set_requires_grad();
}

// x^2 / 2 whose gradient is factor dy x, or what `rule` makes of it.
Tensor half_square(const Tensor& x, double factor) {
  return record("half_square", (0.5 * (x * x)).value(), {x},
                [=, v = x.value()](std::span<const Array> dy, Grads& grads) {
                  grads.give(0, (factor * (Tensor(dy[0]) * Tensor(v))).value());
                });
}

// softmax over the last dimension with dx = y (dy - pull * sum(dy y)) * factor; pull = factor = 1 is right.
Tensor my_softmax(const Tensor& x, double pull, double factor) {
  const Tensor y = softmax(x.detach());
  return record("my_softmax", y.value(), {x}, [=](std::span<const Array> dy, Grads& grads) {
    const Tensor g(dy[0]);
    grads.give(0, (factor * (y * (g - pull * sum(g * y, -1, true)))).value());
  });
}

using Function = std::function<Tensor(std::span<const Tensor>)>;

GradcheckResult of_one(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, GradcheckOptions options = {}) {
  return gradcheck(Function([&](std::span<const Tensor> in) { return f(in[0]); }), {x}, options);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// No full Jacobian: the random directions alone must see it.
const GradcheckOptions directions_only{.full_jacobian_up_to = 0};

}  // namespace

TEST_CASE("gradcheck: right gradients pass, with errors far below the tolerance") {
  const GradcheckResult result = of_one([](const Tensor& x) { return half_square(x, 1); }, leaf({3, 4}));
  CHECK(result.ok);
  CHECK(result);
  CHECK(result.message == "");
  CHECK(result.worst < 1e-9);
  CHECK(of_one([](const Tensor& x) { return my_softmax(x, 1, 1); }, leaf({5, 7})).ok);
  CHECK(of_one([](const Tensor& x) { return my_softmax(x, 1, 1); }, leaf({100, 80})).ok);
  CHECK(of_one([](const Tensor& x) { return sum(moxie::exp(x)); }, leaf({})).ok);
  CHECK(of_one([](const Tensor& x) { return 2.0 * x; }, leaf({0, 3})).ok);
}

TEST_CASE("gradcheck: wrong gradients fail") {
  for (const GradcheckOptions& options : {GradcheckOptions{}, directions_only}) {
    for (const double factor : {-1.0, 0.0, 3.0, 1.00001, 0.5})
      CHECK_FALSE(of_one([=](const Tensor& x) { return half_square(x, factor); }, leaf({3, 4}), options).ok);
    // three times too large; the pull of the other elements missing, halved, or turned around
    CHECK_FALSE(of_one([](const Tensor& x) { return my_softmax(x, 1, 3); }, leaf({5, 7}), options).ok);
    for (const double pull : {0.0, 0.5, -1.0})
      CHECK_FALSE(of_one([=](const Tensor& x) { return my_softmax(x, pull, 1); }, leaf({5, 7}), options).ok);
    // a gradient that stops
    CHECK_FALSE(of_one([](const Tensor& x) { return x * x.detach(); }, leaf({4}), options).ok);
    CHECK_FALSE(of_one([](const Tensor& x) { return moxie::exp(x.detach()); }, leaf({4}), options).ok);
  }
  // one wrong element of many
  const auto one_wrong = [](const Tensor& x) {
    return record("one_wrong", x.value(), {x}, [](std::span<const Array> dy, Grads& grads) {
      const Array dx = dy[0].clone();
      dx.data<double>()[777] = 0;
      grads.give(0, dx);
    });
  };
  CHECK_FALSE(of_one(one_wrong, leaf({40, 50})).ok);
}

TEST_CASE("gradcheck: a rule that overwrites instead of adding fails") {
  const auto overwrites = [](const Tensor& x) {
    return record("overwrites", (2.0 * x).value(), {x}, [](std::span<const Array> dy, Grads& grads) {
      grads.into(0).array.copy_from((2.0 * Tensor(dy[0])).value());
    });
  };
  const GradcheckResult result = of_one(overwrites, leaf({6}));
  CHECK_FALSE(result.ok);
  CHECK(contains(result.message, "gradcheck: input 0 ([6]), element 0: a second backward pass makes its gradient"));
  const auto adds = [](const Tensor& x) {
    return record("adds", (2.0 * x).value(), {x}, [](std::span<const Array> dy, Grads& grads) {
      const Grads::Target dx = grads.into(0);
      const Tensor twice = 2.0 * Tensor(dy[0]);
      dx.array.copy_from(dx.accumulate ? (Tensor(dx.array) + twice).value() : twice.value());
    });
  };
  CHECK(of_one(adds, leaf({6})).ok);
}

TEST_CASE("gradcheck: names the input, the element and both numbers") {
  const Function f = [](std::span<const Tensor> x) { return x[0] * half_square(x[1], -1); };
  const GradcheckResult result = gradcheck(f, {leaf({2, 3}), leaf({2, 3}, 1)});
  CHECK_FALSE(result.ok);
  CHECK(contains(result.message, "gradcheck: input 1 ([2, 3]), random direction v: <dx, v> is "));
  CHECK(contains(result.message, " by backward, <dy, J v> "));
  CHECK(result.worst > 0.01);
  // wrong in a way that no single random direction of a [1] tensor could hide in the Jacobian
  const GradcheckResult jacobian = gradcheck(
      [](std::span<const Tensor> x) {
        return std::vector<Tensor>{sum(x[0]), half_square(x[0], 1 + 1e-5)};
      },
      {Tensor(Array::from(std::vector<double>{2, 0.001}, {2})).set_requires_grad()}, {.tolerance = 6e-6});
  CHECK_FALSE(jacobian.ok);
}

TEST_CASE("gradcheck: the full Jacobian finds what random directions drown") {
  // d(small)/dx is wrong by a half, but small beside the other output
  const Function f = [](std::span<const Tensor> x) {
    const Tensor big = 1e5 * x[0], small = half_square(x[1], 1.5);
    return concat({big, 1e-3 * small}, 0);
  };
  const std::vector<Tensor> x{leaf({3}), leaf({3}, 1)};
  const GradcheckResult result = gradcheck(f, x);
  CHECK_FALSE(result.ok);
  CHECK(contains(result.message, "input 1"));
}

TEST_CASE("gradcheck: inputs without gradients are fixed, integer outputs ignored, several outputs joined") {
  const Tensor weight = leaf({4}).detach();
  int calls_with_other_weight = 0;
  const GradcheckResult result = gradcheck(
      [&](std::span<const Tensor> x) {
        if (!x[1].value().shares_storage_with(weight.value())) ++calls_with_other_weight;
        CHECK_FALSE(x[2].defined());
        const TopK top = top_k(x[0], 2);
        return std::vector<Tensor>{x[0] * x[1], Tensor(top.indices), sum(x[0])};
      },
      {leaf({4}, 2), weight, Tensor()});
  CHECK(result.ok);
  CHECK(result.message == "");
  CHECK(calls_with_other_weight == 0);
  // an output without history counts as constant
  CHECK(gradcheck(
            [&](std::span<const Tensor> x) {
              return std::vector<Tensor>{2.0 * x[0], Tensor(Array::full({2}, 3, x[0].options()))};
            },
            {leaf({4})})
            .ok);
}

TEST_CASE("gradcheck: leaves the inputs and their gradients alone, works under NoGrad, and is deterministic") {
  const Tensor x = leaf({5});
  const auto before = x.to_vector<double>();
  sum(x).backward();
  const auto grad = x.grad().to_vector<double>();
  const auto f = [](const Tensor& t) { return moxie::tanh(t); };
  const GradcheckResult first = of_one(f, x);
  CHECK(first.ok);
  CHECK(x.to_vector<double>() == before);
  CHECK(x.grad().to_vector<double>() == grad);
  CHECK(of_one(f, x).worst == first.worst);
  CHECK(of_one(f, x, {.seed = 2}).worst != first.worst);
  const NoGrad guard;
  CHECK(of_one(f, x).ok);
  CHECK_FALSE(of_one([](const Tensor& t) { return half_square(t, -1); }, x).ok);
}

TEST_CASE("gradcheck: tells randomness, NaN and misuse") {
  uint32_t draw = 0;
  const auto random = [&](const Tensor& x) { return dropout(x, 0.5, {.seed = draw++}); };
  CHECK(of_one(random, leaf({50})).message ==
        "gradcheck: f gives different numbers for the same inputs; fix its random keys");
  const auto not_a_number = [](const Tensor& x) { return moxie::log(x - 100.0); };
  CHECK(contains(of_one(not_a_number, leaf({2})).message, "gradcheck: output 0, element 0 is "));
  const auto wrong_nan = [](const Tensor& x) { return half_square(x, std::nan("")); };
  CHECK_FALSE(of_one(wrong_nan, leaf({2})).ok);
  CHECK_FALSE(of_one(wrong_nan, leaf({2}), directions_only).ok);

  const auto same = [](const Tensor& x) { return x; };
  const Tensor single = Tensor::zeros({2}).set_requires_grad();
  CHECK_THROWS_WITH_AS(of_one(same, single),
                       "gradcheck: input 0 is f32; differences need f64, convert it with cast(x, Dtype::f64)",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(of_one([](const Tensor& x) { return cast(x, Dtype::f32); }, leaf({2})),
                       "gradcheck: output 0 is f32; differences need f64 throughout", std::invalid_argument);
  CHECK_THROWS_WITH_AS(of_one(same, leaf({2}).detach()),
                       "gradcheck: no input requires a gradient; call set_requires_grad() on those to check",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(of_one([](const Tensor&) { return Tensor(); }, leaf({2})),
                       "gradcheck: f gives no output of a float dtype", std::invalid_argument);
  CHECK_THROWS_WITH_AS(of_one(same, leaf({2}), {.step = 0}), "gradcheck: step must be positive, got 0",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(of_one(same, leaf({2}), {.tolerance = -1}), "gradcheck: tolerance must be positive, got -1",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(of_one(same, leaf({2}), {.directions = 0}), "gradcheck: directions must be at least 1, got 0",
                       std::invalid_argument);
}
