// SPDX-License-Identifier: Apache-2.0
// autograd/anomaly.h: where the first NaN or infinity came from.
#include "autograd/anomaly.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "autograd/ops.h"
#include "autograd/recompute.h"

using namespace moxie;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

Tensor leaf(const std::vector<float>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}).set_requires_grad();
}

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("anomaly mode: names the op whose output isn't finite first, in forward") {
  const Tensor x = Tensor::from({1, 2, 3, 4, 5, 0}, {2, 3}).set_requires_grad().set_name("x");
  const auto f = [&] { return sum(moxie::log(x) * 0.0); };
  CHECK(std::isnan(f().item()));  // log 0 * 0
  const AnomalyMode guard;
  CHECK(message(f) ==
        "anomaly in forward of log: output 0 f32 [2, 3] has -inf at element 5, [1, 2]; input 0 'x' f32 [2, 3]: finite; "
        "log needs numbers above 0: add an epsilon, or use log_softmax for the log of a softmax");
  const NoGrad no_grad;  // also where nothing is recorded
  CHECK(message(f).find("anomaly in forward of log") == 0);
}

TEST_CASE("anomaly mode: says when the inputs weren't finite") {
  const Tensor x = leaf({1, 2}), y = Tensor::from({3, static_cast<float>(not_a_number)}, {2});
  const AnomalyMode guard;
  CHECK(message([&] { x + y; }) ==
        "anomaly in forward of add: output 0 f32 [2] has nan at element 1, [1]; input 0 f32 [2]: finite, input 1 f32 "
        "[2]: has nan at element 1, [1]; it came in with the inputs: look at the data, at the parameters, and at what "
        "ran outside of anomaly mode");
}

TEST_CASE("anomaly mode: names the op whose rule made the first gradient that isn't finite") {
  const Tensor x = leaf({4, 0}), w = leaf({1, 1});
  const AnomalyMode guard;
  const Tensor y = sum(moxie::sqrt(x) * w);
  CHECK(
      message([&] { y.backward(); }) ==
      "anomaly in backward of sqrt: the gradient of input 0 f32 [2] has inf at element 1, [1]; forward shapes input 0 "
      "f32 [2] -> f32 [2]; dy: finite, output 0 f32 [2]: finite; the slope of sqrt is infinite at 0: add an epsilon "
      "inside the root");
  // the ops below it are not blamed, nor do gradients stay behind in the graph
  const Tensor tiny = leaf({1e-30f, 1});
  const Tensor z = sum(moxie::div(w, 1.0 * tiny));
  const std::string text = message([&] { z.backward(); });
  CHECK(text.find("anomaly in backward of div: the gradient of input 1 f32 [2] has -inf at element 0, [0]; forward "
                  "shapes input 0 f32 [2], input 1 f32 [2] -> f32 [2]; dy: finite, input 0 f32 [2]: finite, input 1 "
                  "f32 [2]: finite; a divisor is 0 or tiny: add an epsilon to it") == 0);
  CHECK_FALSE(tiny.grad().defined());
}

TEST_CASE("anomaly mode: also where only backward runs in it, and inputs came in bad") {
  const Tensor x = leaf({1, 2}), w = leaf({static_cast<float>(inf), 1});
  const Tensor y = sum(slice(x * w, 0, 1, 1));  // the infinity is not used, and multiplied by 0 in backward
  const AnomalyMode guard;
  CHECK(message([&] { y.backward(); }) ==
        "anomaly in backward of mul: the gradient of input 0 f32 [2] has nan at element 0, [0]; forward shapes input 0 "
        "f32 [2], input 1 f32 [2] -> f32 [2]; dy: finite, input 0 f32 [2]: finite, input 1 f32 [2]: has inf at element "
        "0, [0]; it came in with the inputs: look at the data, at the parameters, and at what ran outside of anomaly "
        "mode");
}

TEST_CASE("anomaly mode: the cotangent, and gradients kept from earlier, are looked through first") {
  const Tensor x = leaf({1, 2}).set_name("x"), unnamed = leaf({1, 2});
  const AnomalyMode guard;
  CHECK(message([&] { (2.0 * x).backward(Array::full({2}, not_a_number)); }) ==
        "anomaly in backward: the cotangent of affine f32 [2] has nan at element 0, [0]; the gradient that backward() "
        "was given must be finite");
  sum(x).backward();
  x.grad().fill(inf);
  CHECK(message([&] { sum(x * x).backward(); }) ==
        "anomaly in backward: the gradient that 'x' f32 [2] kept from an earlier pass has inf at element 0, [0]; clear "
        "it with clear_grad(), or run that pass in anomaly mode too");
  x.clear_grad();
  CHECK(message([&] { sum(x * x).backward(); }) == "nothing thrown");
  sum(unnamed).backward();
  unnamed.grad().fill(not_a_number);
  CHECK(message([&] { sum(unnamed * unnamed).backward(); }).find("the gradient that a leaf f32 [2] kept") !=
        std::string::npos);
}

TEST_CASE("anomaly mode: overflow has a hint of its own") {
  const Tensor x = leaf({3e38f});
  const AnomalyMode guard;
  CHECK(message([&] { 10.0 * x; }).find("; the numbers grew too large: lower the learning rate, or normalise the") !=
        std::string::npos);
  const Tensor y = 1e30 * (1e-30 * (1e30 * (1e-30 * x)));
  CHECK(message([&] { y.backward(Array::full({1}, 1e20)); }).find("; the gradient grew too large: lower the") !=
        std::string::npos);
  CHECK(message([&] { moxie::exp(leaf({100})); }).find("exp overflows above 88") != std::string::npos);
}

TEST_CASE("anomaly mode: inside a recomputed segment the op itself is named") {
  const Tensor x = leaf({4, 0});
  const AnomalyMode guard;
  const auto root = [](std::span<const Tensor> in) { return std::vector<Tensor>{1.0 * moxie::sqrt(in[0])}; };
  const Tensor y = sum(recompute(root, {x})[0]);
  CHECK(message([&] { y.backward(); }).find("anomaly in backward of sqrt") == 0);
  const auto log = [](std::span<const Tensor> in) { return std::vector<Tensor>{moxie::log(in[0])}; };
  CHECK(message([&] { recompute(log, {x}); }).find("anomaly in forward of log") == 0);
}

TEST_CASE("anomaly mode: a scope on one thread, which may allow infinities") {
  const Tensor x = leaf({0});
  CHECK_FALSE(anomaly_mode());
  {
    const AnomalyMode outer;
    CHECK(anomaly_mode());
    {
      const AnomalyMode inner({.allow_infinity = true});
      CHECK(moxie::log(x).item() == -inf);
      CHECK(message([&] {
              moxie::log(x) - moxie::log(x);
            }).find("anomaly in forward of sub: output 0 f32 [1] has nan") == 0);
    }
    CHECK(message([&] { moxie::log(x); }).find("anomaly in forward of log") == 0);
    bool other_thread = true;
    std::thread([&] { other_thread = anomaly_mode(); }).join();
    CHECK_FALSE(other_thread);
  }
  CHECK_FALSE(anomaly_mode());
  CHECK(moxie::log(x).item() == -inf);
}

TEST_CASE("anomaly mode: finite training raises nothing and changes no number") {
  const auto step = [] {
    const Tensor x = Tensor::full({40, 50}, 0.25).set_requires_grad(),
                 w = Tensor::full({50, 30}, 0.5).set_requires_grad();
    const Tensor y = cross_entropy(matmul(x, w), Array::zeros({40}, {Dtype::i32}));
    y.backward();
    return std::pair(y.item(), w.grad().to_vector<double>());
  };
  const auto plain = step();
  const AnomalyMode guard;
  CHECK(step() == plain);
}

TEST_CASE("first_non_finite: every float dtype, any place, with threads") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    for (const int64_t size : {1, 33, 1025, 200000}) {
      const Array x = Array::full({size}, 1, {dtype});
      CHECK(first_non_finite(x) == -1);
      for (const int64_t at : {size - 1, size / 2, int64_t{0}})  // the first one counts
        for (const double value : {-inf, not_a_number}) {
          x.rows(at, 1).fill(value);
          CHECK(first_non_finite(x) == at);
          CHECK(first_non_finite(x.rows(at, 1), {.allow_infinity = true}) == (value == -inf ? -1 : 0));
        }
    }
  const Array largest = Array::full({3}, std::numeric_limits<float>::max());
  CHECK(first_non_finite(largest) == -1);
  CHECK(first_non_finite(Array::zeros({0})) == -1);
  CHECK(first_non_finite(Array::full({2}, -1, {Dtype::i32})) == -1);
  CHECK(first_non_finite(Array()) == -1);
}
