// SPDX-License-Identifier: Apache-2.0
// autograd/saved.h: arrays that a backward rule keeps and somebody changes in place.
#include "autograd/saved.h"

#include <doctest/doctest.h>

#include <functional>

#include "autograd/anomaly.h"
#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "autograd/recompute.h"

using namespace moxie;

namespace {

Tensor leaf(const std::vector<float>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}).set_requires_grad();
}

std::vector<float> grad(const Tensor& x) { return x.grad().to_vector<float>(); }

// What backward() says after `change`.
std::string message(const Tensor& y, const std::function<void()>& change) {
  change();
  try {
    sum(y).backward();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

// Rules that keep x and y and the leaf's gradient.
std::vector<Array> kept(const Tensor& y) {
  std::vector<Array> arrays;
  for (const Node::Saved& saved : y.node()->saved) arrays.push_back(saved.array);
  return arrays;
}

}  // namespace

TEST_CASE("an input changed in place between forward and backward is found") {
  const Tensor x = leaf({1, 2, 3}), w = leaf({4, 5, 6});
  CHECK(message(x * w, [&] { w.value().fill(0); }) ==
        "backward of mul: input 1 f32 [3] was changed in place after the forward pass, so the gradient would be wrong; "
        "call backward() first, or give the op a copy (x.clone())");
  CHECK(message(x * w, [&] { x.value().copy_from(Array::zeros({3})); }).find("mul: input 0 f32 [3] was") !=
        std::string::npos);
  CHECK(message(x * w, [&] {
          x.value().data<float>()[1] = 7;
          x.value().mark_changed();
        }).find("mul: input 0 f32 [3] was") != std::string::npos);
  const Tensor named = leaf({1}).set_name("blocks.0.weight");
  CHECK(message(named * named, [&] { named.value().fill(2); }).find("mul: input 0 'blocks.0.weight' f32 [1] was") !=
        std::string::npos);
  // through a slice, which shares memory
  CHECK(message(x * w, [&] { w.value().rows(2, 1).fill(1); }) != "");
}

TEST_CASE("an output changed in place is found where the rule needs it") {
  const Tensor x = leaf({1, 2, 3});
  const Tensor y = moxie::exp(x);
  CHECK(message(y, [&] { y.value().fill(1); }) ==
        "backward of exp: output 0 f32 [3] was changed in place after the forward pass, so the gradient would be "
        "wrong; call backward() first, or give the op a copy (x.clone())");
}

TEST_CASE("an array of the rule's own changed in place is found") {
  const Tensor x = Tensor::zeros({4, 2}).set_requires_grad();
  const Array index = Array::from(std::vector<int32_t>{0, 3}, {2});
  CHECK(message(embedding(x, index), [&] { index.fill(1); }) ==
        "backward of embedding: a saved array i32 [2] was changed in place after the forward pass, so the gradient "
        "would be wrong; call backward() first, or give the op a copy (x.clone())");
}

TEST_CASE("what a rule doesn't need may change") {
  const Tensor x = leaf({1, 2, 3}), w = leaf({4, 5, 6});
  const Tensor y = 2.0 * x;
  CHECK(message(y, [&] {
          x.value().fill(0);
          y.value().fill(0);
        }) == "");
  CHECK(grad(x) == std::vector<float>{2, 2, 2});
  w.value().fill(1);  // before the forward pass, as often as one likes
  x.clear_grad();
  CHECK(message(x * w, [] {}) == "");
  CHECK(grad(x) == std::vector<float>{1, 1, 1});
}

TEST_CASE("gradient buffers that the engine writes again and again raise nothing") {
  const Tensor x = leaf({1, 2, 3}), w = leaf({4, 5, 6});
  for (int step = 0; step < 3; ++step) {
    sum(x * w + slice(x, 0, 0, 3) * w).backward();
    if (step == 1) x.clear_grad();
  }
  // a gradient that a graph has saved isn't written by the next pass: it gets a copy
  const Tensor constant(x.grad());
  const Tensor y = sum(constant * w);
  sum(x * x).backward();
  y.backward();
  CHECK(grad(w).size() == 3);
}

TEST_CASE("recompute: its inputs are watched, its parameters' gradients may come and go") {
  const Tensor x = leaf({1, 2}), w = leaf({3, 4});
  const Segment segment = [&](std::span<const Tensor> in) { return std::vector<Tensor>{in[0] * w}; };
  for (int step = 0; step < 2; ++step) sum(recompute(segment, {x})[0]).backward();
  CHECK(grad(w) == std::vector<float>{2, 4});
  const Tensor y = recompute(segment, {x})[0];
  CHECK(message(y, [&] { x.value().fill(0); }).find("backward of recompute: input 0 f32 [2] was changed in place") ==
        0);
}

TEST_CASE("record: knows what a rule captured, by value and in containers") {
  const Tensor x = leaf({1, 2, 3}), w = leaf({4, 5, 6});
  CHECK(kept(neg(x)).empty());
  CHECK(kept(x * w).size() == 2);
  CHECK(kept(x * w)[1].shares_storage_with(w.value()));
  const Array mask = Array::zeros({5}, {Dtype::u8});
  const Tensor y = record("mine", x.value().clone(), {x, Tensor(), w},
                          [list = std::vector<Array>{mask, w.value()}, none = Array()](
                              std::span<const Array> dy, Grads& grads) { grads.give(0, dy[0]); });
  REQUIRE(y.node()->saved.size() == 2);
  CHECK(y.node()->saved[0].of == Node::Saved::Of::rule);
  CHECK(y.node()->saved[1].of == Node::Saved::Of::input);
  CHECK(y.node()->saved[1].index == 2);
  CHECK(detail::text_of_input(y.node()->inputs[1], 1) == "input 1 (none)");
  sum(y).backward();
  CHECK(y.node()->saved.empty());  // gone with the rule
}

TEST_CASE("anomaly mode: a write that nobody told of is found by its checksum") {
  const Tensor x = leaf({1, 2, 3}), w = leaf({4, 5, 6});
  const auto secretly = [&] { w.value().data<float>()[2] = 6.5f; };
  CHECK(message(x * w, secretly) == "");  // nobody can know
  const AnomalyMode guard;
  w.value().data<float>()[2] = 6;
  CHECK(message(x * w, secretly) ==
        "backward of mul: input 1 f32 [3] was changed in place after the forward pass, without mark_changed(), so the "
        "gradient would be wrong; call backward() first, or give the op a copy (x.clone())");
  CHECK(message(x * w, [] {}) == "");
}

TEST_CASE("checksum: sees every bit of arrays of any size") {
  for (const int64_t size : {1, 3, 7, 8, 1000, 300000}) {
    const Array x = Array::full({size}, 3, {Dtype::u8});
    const uint64_t before = detail::checksum(x);
    for (const int64_t at : {int64_t{0}, size / 2, size - 1}) {
      x.data<uint8_t>()[at] ^= 1;
      CHECK(detail::checksum(x) != before);
      x.data<uint8_t>()[at] ^= 1;
    }
    CHECK(detail::checksum(x) == before);
  }
  const Array a = Array::from(std::vector<double>{1, 2}, {2}), b = Array::from(std::vector<double>{2, 1}, {2});
  CHECK(detail::checksum(a) != detail::checksum(b));
}

TEST_CASE("set_name: for leaves, and kept by them") {
  Tensor x = leaf({1});
  CHECK(x.name() == "");
  x.set_name("x");
  CHECK(x.name() == "x");
  CHECK((2.0 * x).name() == "");
  CHECK(Tensor().name() == "");
  Tensor y = 2.0 * x, constant = Tensor::zeros({1});
  CHECK_THROWS_WITH_AS(y.set_name("y"), "set_name: only leaves have names; call set_requires_grad() first",
                       std::invalid_argument);
  CHECK_THROWS_AS(constant.set_name("c"), std::invalid_argument);
}
