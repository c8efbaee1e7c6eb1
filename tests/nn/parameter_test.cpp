// SPDX-License-Identifier: Apache-2.0
// nn/parameter.h: one value and one gradient, however many handles and dtypes look at them.
#include "nn/parameter.h"

#include <doctest/doctest.h>

#include <functional>
#include <type_traits>

#include "autograd/ops.h"
#include "tests/device.h"
#include "tests/temporary_folder.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;
using namespace moxie::test;

namespace {

Parameter make(std::vector<float> values) {
  const int64_t n = static_cast<int64_t>(values.size());
  return Parameter(Array::from(values, {n}, current_device()));
}

using Numbers = std::vector<double>;

}  // namespace

static_assert(!std::is_copy_constructible_v<Parameter> && !std::is_copy_assignable_v<Parameter>);
static_assert(std::is_nothrow_move_constructible_v<Parameter>);

DEVICE_TEST_CASE("Parameter: gradients accumulate until they are cleared") {
  const Parameter p = make({1, 2, 3});
  CHECK(p.shape() == Shape{3});
  CHECK(p.numel() == 3);
  CHECK_FALSE(p.grad().defined());
  const Array ones = Array::full({3}, 1, {Dtype::f32, current_device()});
  (p.as(Dtype::f32) * 2.0).backward(ones);
  CHECK(p.grad().to_vector<double>() == Numbers{2, 2, 2});
  (p.as(Dtype::f32) * p.as(Dtype::f32)).backward(ones);
  CHECK(p.grad().to_vector<double>() == Numbers{4, 6, 8});
  p.clear_grad();
  CHECK_FALSE(p.grad().defined());
  (p.as(Dtype::f32) * 5.0).backward(ones);
  CHECK(p.grad().to_vector<double>() == Numbers{5, 5, 5});
}

DEVICE_TEST_CASE("Parameter: decay is an option, on by default") {
  CHECK(make({1}).decays());
  CHECK_FALSE(Parameter(Array::zeros({2}, {Dtype::f32, current_device()}), {.decay = false}).decays());
}

DEVICE_TEST_CASE("Parameter: a tied handle shares value, gradient and freezing") {
  Parameter a = make({1, 2});
  Parameter b = a.tie();
  const Parameter c = make({1, 2});
  CHECK(a.is_tied_to(b));
  CHECK_FALSE(a.is_tied_to(c));
  (a.as(Dtype::f32) * b.as(Dtype::f32)).backward(Array::full({2}, 1, {Dtype::f32, current_device()}));
  CHECK(a.grad().to_vector<double>() == Numbers{2, 4});
  CHECK(b.grad().to_vector<double>() == Numbers{2, 4});
  b.set_value(Array::from(std::vector<float>{7, 8}, {2}, current_device()));
  CHECK(a.value().to_vector<double>() == Numbers{7, 8});
  a.freeze();
  CHECK(b.frozen());
  b.to(Dtype::f64);
  CHECK(a.value().dtype() == Dtype::f64);
}

DEVICE_TEST_CASE("Parameter: the copy in bf16 follows the value and sends its gradient back in f32") {
  Parameter p = make({1, 2});
  const Tensor half = p.as(Dtype::bf16);
  CHECK(half.dtype() == Dtype::bf16);
  CHECK(half.requires_grad());
  (half * half).backward(Array::full({2}, 1, {Dtype::bf16, current_device()}));
  CHECK(p.grad().dtype() == Dtype::f32);
  CHECK(p.grad().to_vector<double>() == Numbers{2, 4});
  p.set_value(Array::from(std::vector<float>{3, 4}, {2}, current_device()));
  CHECK(p.as(Dtype::bf16).to_vector<double>() == Numbers{3, 4});
  p.value().fill(5);  // as an optimizer does
  CHECK(p.as(Dtype::bf16).to_vector<double>() == Numbers{3, 4});
  p.refresh();
  CHECK(p.as(Dtype::bf16).to_vector<double>() == Numbers{5, 5});
  CHECK(p.as(Dtype::f32).to_vector<double>() == Numbers{5, 5});
}

DEVICE_TEST_CASE("Parameter: a frozen one gets no gradient in any dtype, until it is thawed") {
  Parameter p = make({1, 2});
  p.freeze();
  CHECK(p.frozen());
  CHECK_FALSE(p.as(Dtype::f32).requires_grad());
  CHECK_FALSE(p.as(Dtype::bf16).requires_grad());
  Parameter q = make({3, 4});
  (p.as(Dtype::f32) * q.as(Dtype::f32)).backward(Array::full({2}, 1, {Dtype::f32, current_device()}));
  CHECK_FALSE(p.grad().defined());
  CHECK(q.grad().to_vector<double>() == Numbers{1, 2});
  p.to(Dtype::f64);
  CHECK(p.frozen());
  p.freeze(false);
  CHECK_FALSE(p.frozen());
  (p.as(Dtype::f64) * 3.0).backward(Array::full({2}, 1, {Dtype::f64, current_device()}));
  CHECK(p.grad().to_vector<double>() == Numbers{3, 3});
}

DEVICE_TEST_CASE("Parameter: set_value copies, converts, and keeps the gradient and the storage") {
  Parameter p = make({1, 2});
  const Array value = p.value(), given = Array::from(std::vector<double>{0.1, 4}, {2}, current_device());
  p.as(Dtype::f32).backward(Array::full({2}, 1, {Dtype::f32, current_device()}));
  p.set_value(given);
  CHECK(p.value().dtype() == Dtype::f32);
  CHECK(p.value().to_vector<float>() == std::vector<float>{0.1f, 4.0f});
  CHECK(p.value().shares_storage_with(value));
  CHECK(p.grad().to_vector<double>() == Numbers{1, 1});
  given.fill(9);
  CHECK(p.value().to_vector<float>() == std::vector<float>{0.1f, 4.0f});
}

DEVICE_TEST_CASE("Parameter: converting loses the gradient") {
  Parameter p = make({1, 2});
  p.as(Dtype::f32).backward(Array::full({2}, 1, {Dtype::f32, current_device()}));
  p.to(Dtype::f32);
  CHECK(p.grad().defined());
  p.to(Dtype::f64);
  CHECK(p.value().dtype() == Dtype::f64);
  CHECK_FALSE(p.grad().defined());
  CHECK(p.value().to_vector<double>() == Numbers{1, 2});
}

DEVICE_TEST_CASE("Parameter: messages") {
  const auto message = [](auto&& f) { return message_of<std::invalid_argument>(f); };
  Parameter p = make({1, 2});
  CHECK(message([] {
          Parameter(Array::zeros({2}, {Dtype::i32, current_device()}));
        }) == "Parameter: the value must be f32 or f64, got i32");
  CHECK(message([&] {
          p.set_value(Array::zeros({3}, {Dtype::f32, current_device()}));
        }) == "Parameter: the new value has shape [3], the parameter [2]");
  CHECK(contains(message([&] { p.as(Dtype::f64); }), "computes in its own dtype or in bf16, asked for f64"));
  CHECK(contains(message([&] { p.to(Dtype::bf16); }), "values are f32 or f64, got bf16"));
  CHECK(message([] {
          Parameter(Array::zeros({2, 3}, {Dtype::f32, current_device()}), {.stacked = {1, 2}});
        }) ==
        "Parameter: the stacked matrices must have at least one row each and add up to the rows of the parameter, got "
        "[1, 2] for shape [2, 3]");
  CHECK(contains(message([] {
                   Parameter(Array::zeros({2}, {Dtype::f32, current_device()}), {.stacked = {2}});
                 }),
                 "for shape [2]"));
  CHECK(contains(message([] {
                   Parameter(Array::zeros({2, 3}, {Dtype::f32, current_device()}), {.stacked = {2, 0}});
                 }),
                 "got [2, 0]"));
  CHECK(message([] { Parameter(Array::zeros({4, 2, 3}, {Dtype::f32, current_device()}), {.stacked = {1, 1}}); }) == "");
}

DEVICE_TEST_CASE("Parameter: one that is not initialised says so and is tied to nothing") {
  const std::string expected = "Parameter: not initialised; give it a value first";
  Parameter none, other;
  CHECK_FALSE(none.defined());
  CHECK_FALSE(none.is_tied_to(other));
  CHECK_FALSE(none.is_tied_to(none));
  CHECK_FALSE(none.is_tied_to(make({1})));
  CHECK_FALSE(make({1}).is_tied_to(none));
  const std::vector<std::function<void()>> uses{
      [&] { none.as(Dtype::f32); },    [&] { none.tie(); },
      [&] { none.value(); },           [&] { none.shape(); },
      [&] { none.numel(); },           [&] { none.grad(); },
      [&] { none.clear_grad(); },      [&] { none.options(); },
      [&] { none.decays(); },          [&] { none.freeze(); },
      [&] { (void)none.frozen(); },    [&] { none.set_value(Array::zeros({1}, {Dtype::f32, current_device()})); },
      [&] { none.refresh(); },         [&] { none.to(Dtype::f64); },
      [&] { none.to(Device::cpu()); },
  };
  for (const auto& use : uses) CHECK(message_of<std::invalid_argument>(use) == expected);
  none = make({1, 2});
  CHECK(none.defined());
  const Parameter taken = std::move(none);
  CHECK_FALSE(none.defined());  // NOLINT: what is left after the move is tested
  CHECK(taken.numel() == 2);
}
