// SPDX-License-Identifier: Apache-2.0
// autograd/recompute.h: the same gradients for less memory.
#include "autograd/recompute.h"

#include <doctest/doctest.h>

#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "core/storage.h"

using namespace moxie;

namespace {

using Tensors = std::vector<Tensor>;

Tensor draw(const Shape& shape, uint32_t stream) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<double>(normal_at({.seed = 4, .stream = stream}, i));
  return Tensor(Array::from(values, shape)).set_requires_grad();
}

using Doubles = std::vector<double>;
Doubles grad(const Tensor& x) { return x.grad().to_vector<double>(); }

}  // namespace

TEST_CASE("recompute: gradients equal those of the plain graph, also of parameters used inside") {
  const Tensor x = draw({4, 6}, 0), y = draw({4, 6}, 1), w = draw({6, 6}, 2);
  const Segment segment = [&](std::span<const Tensor> in) {
    const Tensor h = moxie::tanh(matmul(in[0], w)) * in[1];
    return Tensors{h + in[0], sum(h * h, 1)};
  };
  const auto run = [&](bool again) {
    for (const Tensor& t : {x, y, w}) t.clear_grad();
    const Tensor in = 2.0 * x;
    const Tensors out = again ? recompute(segment, {in, y}) : segment(Tensors{in, y});
    const Tensor loss = sum(out[0] * out[0]) + sum(moxie::exp(0.1 * out[1]));
    loss.backward();
    return std::vector<Doubles>{loss.to_vector<double>(), grad(x), grad(y), grad(w)};
  };
  const auto plain = run(false);
  CHECK(run(true) == plain);
  CHECK(run(true) == plain);
}

TEST_CASE("recompute: one of several outputs, unused inputs, inputs without gradient") {
  const Tensor x = draw({3}, 0), unused = draw({3}, 1), constant = draw({3}, 2).detach();
  const Segment segment = [](std::span<const Tensor> in) { return Tensors{in[0] * in[2], 5.0 * in[0]}; };
  const Tensors out = recompute(segment, {x, unused, constant});
  sum(out[0]).backward();
  CHECK(grad(x) == constant.to_vector<double>());
  CHECK(grad(unused) == Doubles{0, 0, 0});
  CHECK_FALSE(constant.grad().defined());
}

TEST_CASE("recompute: nothing to record") {
  const Tensor x = draw({3}, 0);
  const Segment twice = [](std::span<const Tensor> in) { return Tensors{2.0 * in[0]}; };
  const NoGrad guard;
  CHECK_FALSE(recompute(twice, {x})[0].requires_grad());
}

TEST_CASE("recompute: parameters alone get their gradients") {
  const Tensor w = draw({3}, 0), x = draw({3}, 1).detach();
  const Tensor y = recompute([&](std::span<const Tensor> in) { return Tensors{in[0] * w}; }, {x})[0];
  CHECK(y.requires_grad());
  sum(y).backward();
  CHECK(grad(w) == x.to_vector<double>());
}

TEST_CASE("recompute: nested, and passed by gradcheck") {
  const Segment inner = [](std::span<const Tensor> in) { return Tensors{moxie::tanh(in[0]) * in[0]}; };
  const Segment outer = [&](std::span<const Tensor> in) {
    const Tensor h = recompute(inner, {in[0] + in[1]})[0];
    return Tensors{recompute(inner, {h * in[1]})[0], sum(h)};
  };
  const GradcheckResult result = gradcheck(
      [&](std::span<const Tensor> in) {
        Tensors out = recompute(outer, {moxie::exp(in[0]), in[1]});
        out.push_back(sum(out[0] * out[1]));
        return out;
      },
      {draw({4}, 0), draw({4}, 1)});
  INFO(result.message);
  CHECK(result.ok);
}

TEST_CASE("recompute: dropout inside draws the same mask again") {
  const Tensor x = draw({1000}, 0);
  const RandomKey key{.seed = 8, .stream = 2};
  const Segment segment = [=](std::span<const Tensor> in) { return Tensors{dropout(in[0] * in[0], 0.5, key)}; };
  sum(segment(Tensors{x})[0]).backward();
  const Doubles plain = grad(x);
  x.clear_grad();
  sum(recompute(segment, {x})[0]).backward();
  CHECK(grad(x) == plain);
}

TEST_CASE("recompute: needs less memory") {
  const Tensor x = Tensor::full({1 << 18}, 0.5).set_requires_grad();  // one megabyte
  const Segment deep = [](std::span<const Tensor> in) {
    Tensor h = in[0];
    for (int i = 0; i < 16; ++i) h = moxie::tanh(h);
    return Tensors{h};
  };
  const auto peak = [&](bool again) {
    x.clear_grad();
    reset_peak_memory();
    const int64_t before = cpu_memory().live_bytes;
    Tensor h = x;
    for (int i = 0; i < 4; ++i) h = again ? recompute(deep, {h})[0] : deep(Tensors{h})[0];
    const int64_t held = cpu_memory().live_bytes - before;
    sum(h).backward();
    return std::pair(held, cpu_memory().peak_bytes - before);
  };
  const auto plain = peak(false), less = peak(true);
  constexpr int64_t megabyte = 1 << 20;
  CHECK(plain.first >= 64 * megabyte);
  CHECK(less.first <= 5 * megabyte);
  CHECK(less.second <= 26 * megabyte);
}

TEST_CASE("recompute: tells what it can't do") {
  const Tensor x = draw({3}, 0);
  int calls = 0;
  const Tensors changing = recompute(
      [&](std::span<const Tensor> in) {
        return calls++ == 0 ? Tensors{in[0]} : Tensors{2.0 * in[0], in[0]};
      },
      {x});
  CHECK_THROWS_WITH_AS(sum(changing[0]).backward(), "recompute: the segment gave 2 tensors, 1 the first time",
                       std::invalid_argument);
  const Tensor outside = moxie::exp(x);
  const Tensor y = recompute([&](std::span<const Tensor> in) { return Tensors{in[0] * outside}; }, {x})[0];
  CHECK_THROWS_WITH_AS(sum(y).backward(),
                       "recompute: the segment uses a result of exp from outside; make it one of the inputs",
                       std::invalid_argument);
  CHECK(grad_enabled());
}
