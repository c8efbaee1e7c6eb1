// SPDX-License-Identifier: Apache-2.0
// autograd/record.h and Tensor::backward: the graph, its gradients and its memory.
#include <doctest/doctest.h>

#include <cmath>
#include <thread>

#include "autograd/ops.h"
#include "autograd/record.h"
#include "core/storage.h"
#include "tests/device.h"

using namespace moxie;

namespace {

using Doubles = std::vector<double>;

Tensor leaf(const Doubles& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}).set_requires_grad();
}

Doubles grad(const Tensor& x) { return x.grad().to_vector<double>(); }

Array like(const Tensor& x, const Doubles& values) { return Array::from(values, x.shape()); }

// A user's op: cubes, with a rule of its own.
Tensor cube(const Tensor& x) {
  const auto cubed = [](const Array& v, const Array& into, auto f) {
    for (int64_t i = 0; i < v.numel(); ++i) into.data<double>()[i] = f(v.data<double>()[i]);
  };
  const Array y = Array::empty(x.shape(), x.options());
  cubed(x.value(), y, [](double v) { return v * v * v; });
  return record("cube", y, {x}, [x = x.value()](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    for (int64_t i = 0; i < x.numel(); ++i) {
      const double v = x.data<double>()[i], g = dy[0].data<double>()[i] * 3 * v * v;
      double& place = dx.data<double>()[i];
      place = dx.accumulate ? place + g : g;
    }
  });
}

// x itself; its backward rule tells `seen` what the CPU holds at that moment.
Tensor probe(const Tensor& x, std::vector<int64_t>& seen) {
  return record("probe", x.value(), {x}, [&seen](std::span<const Array> dy, Grads& grads) {
    seen.push_back(cpu_memory().live_bytes);
    grads.give(0, dy[0]);
  });
}

}  // namespace

TEST_CASE("backward: multiplies any cotangent with the Jacobian, and adds up over calls") {
  const Tensor x = leaf({1, 2, 3});
  const Tensor y = x * x;
  y.backward(like(y, {1, 10, -1}));
  CHECK(grad(x) == Doubles{2, 40, -6});
  const Tensor z = 3.0 * x;
  z.backward(like(z, {1, 1, 1}));
  CHECK(grad(x) == Doubles{5, 43, -3});
  const Tensor one = sum(x);
  one.backward();
  CHECK(grad(x) == Doubles{6, 44, -2});
}

TEST_CASE("backward: tensors used several times") {
  const Tensor x = leaf({2, -1});
  const Tensor square = x * x;                        // x^2
  const Tensor y = square * square + square + x - x;  // x^4 + x^2
  y.backward(like(y, {1, 1}));
  CHECK(grad(x) == Doubles{4 * 8 + 4, -4 - 2});
  const Tensor a = leaf({3}), b = leaf({5});
  const Tensor c = a + b, d = c * c, e = d - c * a;  // (a+b)^2 - (a+b) a = ab + b^2
  e.backward();
  CHECK(grad(a) == Doubles{5});
  CHECK(grad(b) == Doubles{13});
}

TEST_CASE("backward: from a leaf itself") {
  const Tensor x = leaf({1, 2});
  x.backward(like(x, {3, 4}));
  x.backward(like(x, {3, 5}));
  CHECK(grad(x) == Doubles{6, 9});
}

TEST_CASE("backward: the cotangent is neither changed nor kept") {
  const Tensor x = leaf({1, 2}), y = leaf({1, 2});
  const Array dz = like(x, {3, 4});
  const Tensor z = x + y + x;
  z.backward(dz);
  CHECK(dz.to_vector<double>() == Doubles{3, 4});
  dz.fill(0);
  CHECK(grad(x) == Doubles{6, 8});
  CHECK(grad(y) == Doubles{3, 4});
}

TEST_CASE("leaf gradients share no memory") {
  const Tensor x = leaf({1, 2}), y = leaf({1, 2}), z = leaf({5, 6});
  const Array ones = Array::full({2}, 1, {Dtype::f64});
  (x + y + reshape(z, {2})).backward(ones);
  x.grad().fill(9);
  CHECK(grad(y) == Doubles{1, 1});
  CHECK(grad(z) == Doubles{1, 1});
  CHECK(ones.to_vector<double>() == Doubles{1, 1});
  // and one that the caller holds doesn't change under him
  const Array held = y.grad();
  (2.0 * y).backward(ones);
  CHECK(held.to_vector<double>() == Doubles{1, 1});
  CHECK(grad(y) == Doubles{3, 3});
}

TEST_CASE("clear_grad: keeps the memory, and the next pass overwrites it") {
  const Tensor x = leaf({1, 2, 3}), w = leaf({1, 1, 1});
  const auto pass = [&] { sum(x * x + w).backward(); };
  CHECK_FALSE(x.grad().defined());
  pass();
  const double *x_memory = x.grad().data<double>(), *w_memory = w.grad().data<double>();
  x.clear_grad();
  w.clear_grad();
  CHECK_FALSE(x.grad().defined());
  pass();
  CHECK(grad(x) == Doubles{2, 4, 6});
  CHECK(grad(w) == Doubles{1, 1, 1});
  CHECK(x.grad().data<double>() == x_memory);
  CHECK(w.grad().data<double>() == w_memory);
  const Array held = x.grad();  // memory that somebody holds is not overwritten
  x.clear_grad();
  pass();
  x.clear_grad();
  sum(5.0 * x).backward();
  CHECK(held.to_vector<double>() == Doubles{2, 4, 6});
  CHECK(grad(x) == Doubles{5, 5, 5});
}

TEST_CASE("a steady state asks the system for no memory") {
  const Tensor x = Tensor::full({256, 256}, 0.5).set_requires_grad(),
               w = Tensor::full({256, 256}, 0.01).set_requires_grad();
  const auto step = [&] {
    x.clear_grad();
    w.clear_grad();
    sum(moxie::tanh(matmul(x, w) + x)).backward();
  };
  step();
  step();
  const MemoryStatistics before = cpu_memory();
  for (int i = 0; i < 5; ++i) step();
  CHECK(cpu_memory().system_calls == before.system_calls);
  CHECK(cpu_memory().live_bytes == before.live_bytes);
}

TEST_CASE("detach, constants and no_grad") {
  const Tensor x = leaf({2, 3}), constant = Tensor::from(Doubles{5, 7}, {2});
  const Tensor y = x * x.detach() * constant;
  CHECK(y.requires_grad());
  CHECK_FALSE(x.detach().requires_grad());
  CHECK(x.detach().value().shares_storage_with(x.value()));
  y.backward(like(y, {1, 1}));
  CHECK(grad(x) == Doubles{10, 21});
  CHECK_FALSE(constant.grad().defined());
  CHECK_FALSE((constant * constant).requires_grad());
  CHECK(grad_enabled());
  {
    const NoGrad guard;
    CHECK_FALSE(grad_enabled());
    CHECK_FALSE((x * x).requires_grad());
    CHECK_FALSE(will_record({x}));
    { const NoGrad inner; }
    CHECK_FALSE(grad_enabled());
    bool other_thread = false;
    std::thread([&] { other_thread = grad_enabled(); }).join();
    CHECK(other_thread);
  }
  CHECK(grad_enabled());
  CHECK(will_record({constant, x}));
  CHECK_FALSE(will_record({constant}));
}

TEST_CASE("set_requires_grad") {
  Tensor x = Tensor::from(Doubles{1, 2}, {2});
  CHECK_FALSE(x.requires_grad());
  x.set_requires_grad();
  CHECK(x.requires_grad());
  const std::shared_ptr<Node> node = x.node();
  x.set_requires_grad();
  CHECK(x.node() == node);  // still the same leaf, with its gradient
  x.set_requires_grad(false);
  CHECK_FALSE(x.requires_grad());
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("backward: uses the graph up") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * x, z = moxie::exp(y), w = sum(z);
  w.backward();
  const Doubles once = grad(x);
  CHECK_THROWS_WITH_AS(w.backward(),
                       "backward: the graph through sum was used by an earlier backward; run the forward pass again",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(sum(y).backward(),
                       "backward: the graph through mul was used by an earlier backward; run the forward pass again",
                       std::invalid_argument);
  CHECK(grad(x) == once);
}

TEST_CASE("record: several outputs, used, unused and used twice") {
  std::vector<bool> zero;  // whether the gradient of each output arrived as zeros
  const auto split = [&](const Tensor& x) {
    const Array first = (2.0 * x.detach()).value(), second = (3.0 * x.detach()).value();
    return record("split", {first, second}, std::span(&x, 1), [&](std::span<const Array> dy, Grads& grads) {
      zero.clear();
      for (const Array& g : dy) zero.push_back(g.to_vector<double>() == Doubles{0, 0});
      grads.give(0, (2.0 * Tensor(dy[0]) + 3.0 * Tensor(dy[1])).value());
    });
  };
  const Tensor x = leaf({1, 2});
  sum(split(x)[1]).backward();
  CHECK(grad(x) == Doubles{3, 3});
  CHECK(zero == std::vector<bool>{true, false});
  x.clear_grad();
  const std::vector<Tensor> both = split(x);
  CHECK(both[0].output() == 0);
  CHECK(both[1].output() == 1);
  sum(both[0] + both[1] * both[1]).backward();
  CHECK(grad(x) == Doubles{2 + 18, 2 + 36});
  CHECK(zero == std::vector<bool>{false, false});
}

TEST_CASE("record: a user's own op joins the graph") {
  const Tensor x = leaf({1, 2, -1});
  const Tensor y = cube(x) + cube(cube(x));  // x^3 + x^9
  CHECK(y.to_vector<double>() == Doubles{2, 520, -2});
  y.backward(like(y, {1, 1, 1}));
  CHECK(grad(x) == Doubles{12, 12 + 9 * 256, 12});
}

TEST_CASE("record: wrong rules are told") {
  const Tensor x = leaf({1, 2}), constant = Tensor::from(Doubles{1, 2}, {2});
  const auto run = [&](Backward rule) { sum(record("mine", x.value(), {x, constant}, std::move(rule))).backward(); };
  CHECK_THROWS_WITH_AS(run([](auto, Grads& grads) { grads.give(0, Array::zeros({3}, {Dtype::f64})); }),
                       "mine: gave a gradient of shape [3] for input 0 of shape [2]", std::invalid_argument);
  CHECK_THROWS_WITH_AS(run([](auto, Grads& grads) { grads.into(1); }),
                       "mine: input 1 of 2 needs no gradient; the rule has to ask needs() first",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(run([](auto dy, Grads& grads) { grads.give(2, dy[0]); }),
                       "mine: the rule asks for input 2 of 2; the first is 0", std::invalid_argument);
  CHECK_THROWS_WITH_AS(run([](auto, Grads& grads) { grads.needs(2); }),
                       "mine: the rule asks for input 2 of 2; the first is 0", std::invalid_argument);
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("a rule that throws leaves no gradients behind in the graph") {
  const Tensor x = leaf({1, 2}), w = leaf({1, 2});
  bool fail = true;
  const auto fragile = [&](const Tensor& in) {
    return record("fragile", in.value(), {in}, [&](std::span<const Array> dy, Grads& grads) {
      if (fail) throw std::runtime_error("out of luck");
      grads.give(0, dy[0]);
    });
  };
  const int64_t live = cpu_memory().live_bytes;
  {
    const Tensor y = sum(fragile(2.0 * x));
    CHECK_THROWS_WITH_AS(y.backward(), "out of luck", std::runtime_error);
  }
  CHECK(cpu_memory().live_bytes == live);
  CHECK_FALSE(x.grad().defined());
  CHECK(grad_enabled());
  fail = false;
  sum(fragile(2.0 * x)).backward();
  CHECK(grad(x) == Doubles{2, 2});
}

TEST_CASE("gradients of a bf16 copy arrive in the leaf's f32") {
  const Tensor leaf_f32 = Tensor::from({1, 2}, {2}).set_requires_grad();
  const auto copy = [&] { return Tensor(leaf_f32.value().to(Dtype::bf16), leaf_f32.node(), 0); };
  const Array dy = Array::full({2}, 1, {Dtype::bf16});
  (3.0 * copy()).backward(dy);
  CHECK(leaf_f32.grad().dtype() == Dtype::f32);
  CHECK(leaf_f32.grad().to_vector<double>() == Doubles{3, 3});
  const Tensor c = copy();
  slice(c * c, 0, 1, 1).backward(Array::full({1}, 1, {Dtype::bf16}));
  CHECK(leaf_f32.grad().to_vector<double>() == Doubles{3, 7});
  slice(copy(), 0, 0, 1).backward(Array::full({1}, 1, {Dtype::bf16}));
  CHECK(leaf_f32.grad().to_vector<double>() == Doubles{4, 7});
}

TEST_CASE("a chain of a million additions: forward, backward, and taken apart unused") {
  constexpr int64_t length =
      testing::only_races ? 10000 : 1000000;  // each addition starts threads where races are looked for
  const auto chain = [](Tensor x) {
    for (int64_t i = 0; i < length; ++i) x = x + 1.0;
    return x;
  };
  const Tensor x = leaf({0.5});
  const int64_t live = cpu_memory().live_bytes;
  {
    const Tensor y = chain(x);
    CHECK(y.item() == static_cast<double>(length) + 0.5);
    y.backward();
    CHECK(grad(x) == Doubles{1});
  }
  { const Tensor unused = chain(x); }
  CHECK(cpu_memory().live_bytes <= live + 64);  // x's gradient
}

TEST_CASE("the graph is freed while it is used") {
  constexpr int64_t megabyte = 1 << 20;
  constexpr int layers = 8;
  const Tensor x = Tensor::full({megabyte / 4}, 0.5).set_requires_grad();
  std::vector<int64_t> seen;
  const int64_t live = cpu_memory().live_bytes;
  {
    Tensor h = x;
    for (int i = 0; i < layers; ++i) h = moxie::tanh(probe(h, seen));
    const Tensor loss = sum(h);
    h = {};
    loss.backward();
  }
  REQUIRE(seen.size() == layers);  // the last layer first
  for (size_t i = 1; i < layers; ++i) CHECK(seen[i] <= seen[i - 1] - megabyte);
  CHECK(cpu_memory().live_bytes == live + megabyte);  // x's gradient
}
