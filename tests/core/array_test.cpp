// SPDX-License-Identifier: Apache-2.0
// core/array.h
#include "core/array.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

using namespace moxie;

namespace {

using Doubles = std::vector<double>;
Array numbers(int64_t n, Dtype dtype = Dtype::f32) {
  Doubles values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<double>(i));
  return Array::from(values, {n}).to(dtype);
}

}  // namespace

TEST_CASE("Array: made with numbers, zeros, or one number") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::u8}) {
    CHECK(Array::zeros({2, 2}, {dtype}).to_vector<double>() == Doubles{0, 0, 0, 0});
    const Array threes = Array::full({3}, 3, {dtype});
    CHECK(threes.to_vector<double>() == Doubles{3, 3, 3});
    CHECK(threes.dtype() == dtype);
    CHECK(threes.bytes() == 3 * size_of(dtype));
    CHECK(Array::empty({0, 5}, {dtype}).to_vector<double>().empty());
    CHECK(Array::full({}, 7, {dtype}).item() == 7);
  }
  CHECK(Array::from(std::vector<float>{1, 2}, {2}).dtype() == Dtype::f32);
  CHECK(Array::from(std::vector<bf16>{bf16(1), bf16(2)}, {2}).to_vector<double>() == Doubles{1, 2});
  CHECK(Array::from(std::vector<int32_t>{1, -2}, {2}).to_vector<int32_t>() == std::vector<int32_t>{1, -2});
  CHECK(Array::from(std::vector<uint8_t>{1, 255}, {2}).to_vector<double>() == Doubles{1, 255});
  const Array a = Array::from(Doubles{1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(a.shape() == Shape{2, 3});
  CHECK(a.dim(-1) == 3);
  CHECK(a.data<double>()[4] == 5);
  CHECK(a.options() == Options{Dtype::f64, Device::cpu()});
}

TEST_CASE("Array: undefined") {
  const Array none;
  CHECK_FALSE(none.defined());
  CHECK(none.numel() == 0);
  CHECK(none.raw() == nullptr);
  CHECK_FALSE(none.clone().defined());
  CHECK_FALSE(none.to(Dtype::f64).defined());
  CHECK_FALSE(none.to(Device::cpu()).defined());
  CHECK_FALSE(none.shares_storage_with(none));
  CHECK(Array::empty({0}).defined());
}

TEST_CASE("Array: reshape and rows share storage, clone doesn't") {
  const Array a = numbers(12);
  CHECK(a.unique());
  const Array grid = a.reshape({3, 4}), deduced = a.reshape({2, -1, 3}), rows = grid.rows(1, 2);
  CHECK_FALSE(a.unique());
  CHECK(grid.shape() == Shape{3, 4});
  CHECK(deduced.shape() == Shape{2, 2, 3});
  CHECK(grid.shares_storage_with(a));
  CHECK(rows.shape() == Shape{2, 4});
  CHECK(rows.numel() == 8);
  CHECK(rows.to_vector<double>() == Doubles{4, 5, 6, 7, 8, 9, 10, 11});
  CHECK(rows.rows(1, 1).to_vector<double>() == Doubles{8, 9, 10, 11});
  CHECK(grid.rows(3, 0).numel() == 0);
  rows.fill(-1);
  CHECK(a.to_vector<double>() == Doubles{0, 1, 2, 3, -1, -1, -1, -1, -1, -1, -1, -1});
  const Array copy = rows.clone();
  CHECK(copy.unique());
  CHECK_FALSE(copy.shares_storage_with(a));
  CHECK(copy.to_vector<double>() == rows.to_vector<double>());
  CHECK(numbers(1).reshape({}).item() == 0);
  CHECK(Array::zeros({0, 3}).reshape({5, 0}).numel() == 0);
}

TEST_CASE("Array: copy_from, also beyond the parallel threshold") {
  for (const int64_t n : {0, 1, 1000, 300000}) {
    const Array from = numbers(n), into = Array::zeros({n});
    into.copy_from(from);
    CHECK(into.to_vector<float>() == from.to_vector<float>());
    CHECK(from.clone().to_vector<float>() == from.to_vector<float>());
  }
  const Array a = numbers(6).reshape({3, 2});
  a.rows(0, 1).copy_from(a.rows(2, 1));
  CHECK(a.to_vector<double>() == Doubles{4, 5, 2, 3, 4, 5});
}

TEST_CASE("Array: conversions") {
  const Array a = Array::from(Doubles{0, 1.5, -2.25, 3.00390625}, {4});
  CHECK(a.to(Dtype::f64).shares_storage_with(a));
  CHECK(a.to(Device::cpu()).shares_storage_with(a));
  CHECK(a.to(Dtype::f32).to_vector<double>() == a.to_vector<double>());
  CHECK(a.to(Dtype::bf16).to_vector<double>() == Doubles{0, 1.5, -2.25, 3});
  CHECK(a.to(Dtype::i32).to_vector<int32_t>() == std::vector<int32_t>{0, 1, -2, 3});
  CHECK(numbers(256, Dtype::u8).to_vector<double>()[255] == 255);
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const Doubles special =
      Array::from(Doubles{nan, infinity, -infinity, 1e300}, {4}).to(Dtype::bf16).to_vector<double>();
  CHECK(std::isnan(special[0]));
  CHECK(special[1] == infinity);
  CHECK(special[2] == -infinity);
  CHECK(special[3] == infinity);
  for (const int64_t n : {4095, 4096, 4097, 20000})
    CHECK(numbers(n, Dtype::f64).to(Dtype::f32).to(Dtype::i32).to_vector<double>() == numbers(n).to_vector<double>());
}

TEST_CASE("Array: item and fill") {
  const Array a = Array::zeros({1, 1}, {Dtype::bf16});
  a.fill(2.5);
  CHECK(a.item() == 2.5);
}

TEST_CASE("dispatch: the C++ type of each dtype") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::u8}) {
    CHECK(dispatch(dtype, [](auto value) { return dtype_of<decltype(value)>; }) == dtype);
    if (is_float(dtype))
      CHECK(dispatch_float("op", dtype, [](auto value) { return dtype_of<decltype(value)>; }) == dtype);
  }
}

TEST_CASE("Array: errors") {
  struct Case {
    std::function<void()> f;
    const char* message;
  };
  const Array a = numbers(6).reshape({2, 3});
  for (const Case& c : std::vector<Case>{
           {[] {
              Array::from(Doubles{1, 2}, {3});
            },
            "Array::from: 2 values don't fill shape [3] (3 elements)"},
           {[] { Array::empty({int64_t{1} << 58}, {Dtype::f64}); },
            "Array: shape [288230376151711744] of f64 is too large"},
           {[&] { a.reshape({5}); }, "reshape: [2, 3] has 6 elements, [5] has 5"},
           {[&] {
              a.reshape({4, -1});
            },
            "reshape: [2, 3] doesn't divide into the sizes given, whose product is 4"},
           {[&] { Array::full({}, 1).rows(0, 1); }, "rows: a scalar has no rows"},
           {[&] { a.rows(1, 2); }, "rows: [1, 3) is out of range for shape [2, 3]"},
           {[&] { a.rows(-1, 1); }, "rows: [-1, 0) is out of range for shape [2, 3]"},
           {[&] { a.copy_from(numbers(6)); }, "copy_from: [6] f32 on cpu into [2, 3] f32 on cpu"},
           {[&] { a.copy_from(a.to(Dtype::bf16)); }, "copy_from: [2, 3] bf16 on cpu into [2, 3] f32 on cpu"},
           {[&] { a.item(); }, "item: needs an array with one element, got shape [2, 3]"},
           {[&] { a.dim(2); }, "dim: dimension 2 is out of range for shape [2, 3]"},
           {[] { Array().fill(1); }, "Array: an undefined array has no numbers"},
           {[] { Array().to_vector<float>(); }, "Array: an undefined array has no numbers"},
           {[] { dispatch_float("op", Dtype::u8, [](auto) {}); }, "op: needs a float dtype (f64, f32 or bf16), got u8"},
       })
    CHECK_THROWS_WITH_AS(c.f(), c.message, std::invalid_argument);
  CHECK_THROWS_WITH_AS(a.data<double>(), "Array: asked for f64 numbers of an array of f32", std::logic_error);
#ifndef MOXIE_CUDA
  CHECK_THROWS_AS(a.to(Device::cuda()), std::invalid_argument);
  CHECK_THROWS_AS(Array::empty({1}, {Dtype::f32, Device::cuda()}), std::invalid_argument);
#endif
}
