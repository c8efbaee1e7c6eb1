// SPDX-License-Identifier: Apache-2.0
// autograd/tensor.h: making, reading and printing tensors, and the errors of autograd.
#include "autograd/tensor.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>

#include "autograd/ops.h"

using namespace moxie;

TEST_CASE("Tensor: from and to vectors") {
  const Tensor x = Tensor::from({1, 2.5f, -3, 4, 5, 6}, {2, 3});
  CHECK(x.shape() == Shape({2, 3}));
  CHECK(x.dtype() == Dtype::f32);
  CHECK(x.device() == Device::cpu());
  CHECK(x.numel() == 6);
  CHECK(x.dim(0) == 2);
  CHECK(x.dim(-1) == 3);
  CHECK(x.to_vector<double>() == std::vector<double>{1, 2.5, -3, 4, 5, 6});
  CHECK(x.to_vector<int32_t>() == std::vector<int32_t>{1, 2, -3, 4, 5, 6});
  CHECK(Tensor::from(std::vector<double>{0.1}, {}).dtype() == Dtype::f64);
  CHECK(Tensor::from(std::vector<int32_t>{7}, {1}).item() == 7);
  CHECK(Tensor::scalar(2.5, {Dtype::bf16}).item() == 2.5);
  CHECK(Tensor::scalar(2.5).shape() == Shape{});
  CHECK(Tensor::zeros({2}).to_vector<float>() == std::vector<float>{0, 0});
  CHECK(Tensor::full({2}, 3, {Dtype::i32}).to_vector<int32_t>() == std::vector<int32_t>{3, 3});
  CHECK_FALSE(Tensor().defined());
  CHECK(x.defined());
}

TEST_CASE("Tensor: prints through fmt") {
  CHECK(fmt::format("{}", Tensor::from({1, 2.5f, -3, 4}, {2, 2})) == "[[1, 2.5], [-3, 4]] (shape [2, 2], f32, cpu)");
  CHECK(fmt::format("{}", Tensor::scalar(1.0 / 3, {Dtype::f64})) == "0.33333 (shape [], f64, cpu)");
  CHECK(fmt::format("{}", Tensor::zeros({0, 3})) == "[] (shape [0, 3], f32, cpu)");
  CHECK(fmt::format("{}", Tensor::zeros({2, 0})) == "[[], []] (shape [2, 0], f32, cpu)");
  CHECK(fmt::format("{}", Tensor::zeros({9})) == "[0, 0, 0, 0, 0, 0, 0, 0, ...] (shape [9], f32, cpu)");
  CHECK(fmt::format("{}", Tensor()) == "undefined");
  CHECK(fmt::format("{}", Array::full({1}, 1234567, {Dtype::i32})) == "[1234567] (shape [1], i32, cpu)");
  CHECK(fmt::format("{}", Array::full({2}, 255, {Dtype::u8})) == "[255, 255] (shape [2], u8, cpu)");
  CHECK(fmt::format("{}", Tensor::full({1}, 1e-20)) == "[1e-20] (shape [1], f32, cpu)");
  CHECK(fmt::format("{:>8}|", Shape{1, 2}) == "  [1, 2]|");
  CHECK(Tensor::full({1}, 2).to_string() == "[2] (shape [1], f32, cpu)");
}

TEST_CASE("Tensor: an undefined one is refused, not read") {
  const Tensor none, x = Tensor::zeros({});
  for (const auto& f : std::vector<std::function<void()>>{[&] { add(none, none); },
                                                          [&] { add(none, x); },
                                                          [&] { moxie::exp(none); },
                                                          [&] { sum(none); },
                                                          [&] { matmul(none, none); },
                                                          [&] { linear(none, none); },
                                                          [&] { concat({none}, 0); },
                                                          [&] { reshape(none, {1}); },
                                                          [&] { softmax(none); },
                                                          [&] { affine(none, 1, 2); },
                                                          [&] { none.item(); },
                                                          [&] { none.to_vector<float>(); },
                                                          [&] { none.backward(); },
                                                          [&] { attention(none, none, none); },
                                                          [&] { embedding(none, none.value()); },
                                                          [&] { top_k(none, 1); },
                                                          [&] { dropout(none, 0.5, {}); },
                                                          [&] { index_add(none, none.value(), none); },
                                                          [&] { cross_entropy(none, none.value()); },
                                                          [&] { rms_norm(none, none); },
                                                          [&] { gather(none, 0, none.value()); },
                                                          [&] { rope(none, 1); }})
    CHECK_THROWS_AS(f(), std::invalid_argument);
}

TEST_CASE("Tensor: errors") {
  Tensor x = Tensor::zeros({2}).set_requires_grad();
  const Tensor y = 2.0 * x;
  struct Case {
    std::function<void()> f;
    const char* message;
  };
  for (const Case& c : std::vector<Case>{
           {[&] { Tensor(y).set_requires_grad(); },
            "set_requires_grad: the tensor is the result of affine; detach() it first"},
           {[&] { Tensor(y).set_requires_grad(false); },
            "set_requires_grad: the tensor is the result of affine; detach() it first"},
           {[] { Tensor().set_requires_grad(); }, "set_requires_grad: the tensor is undefined"},
           {[] { Tensor::zeros({1}, {Dtype::i32}).set_requires_grad(); },
            "set_requires_grad: needs a float dtype, got i32"},
           {[&] { y.backward(); }, "backward: needs a tensor with one element or a cotangent, got shape [2]"},
           {[] { Tensor::zeros({}).backward(); },
            "backward: no tensor that this one was computed from requires a gradient"},
           {[&] { y.backward(Array::zeros({3})); }, "backward: cotangent [3] differs from the tensor's shape [2]"},
           {[&] { y.backward(Array::zeros({2}, {Dtype::f64})); },
            "backward: cotangent is f64 on cpu, the tensor f32 on cpu"},
           {[&] { y.item(); }, "item: needs an array with one element, got shape [2]"},
           {[] {
              Tensor::from({1, 2}, {3});
            },
            "Array::from: 2 values don't fill shape [3] (3 elements)"},
       })
    CHECK_THROWS_WITH_AS(c.f(), c.message, std::invalid_argument);
}
