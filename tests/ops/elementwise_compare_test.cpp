// SPDX-License-Identifier: Apache-2.0
// autograd/ops/elementwise.h: comparisons and logic. They give masks without gradient, so they have no rows.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "tests/ops/broadcast.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

struct Comparison {
  const char* name;
  Array (*of_tensors)(const Tensor&, const Tensor&);
  Array (*of_number)(const Tensor&, double);
  bool (*reference)(double, double);
};

const Comparison comparisons[] = {
    {"equal", equal, equal, [](double x, double y) { return x == y; }},
    {"not_equal", not_equal, not_equal, [](double x, double y) { return x != y; }},
    {"less", less, less, [](double x, double y) { return x < y; }},
    {"less_equal", less_equal, less_equal, [](double x, double y) { return x <= y; }},
    {"greater", greater, greater, [](double x, double y) { return x > y; }},
    {"greater_equal", greater_equal, greater_equal, [](double x, double y) { return x >= y; }},
};

struct Pair {
  Shape x, y, z;
};

const std::vector<Pair> pairs = {
    {{}, {}, {}},
    {{0}, {0}, {0}},
    {{33}, {33}, {33}},
    {{1025}, {1025}, {1025}},
    {{2, 3}, {}, {2, 3}},
    {{}, {3}, {3}},
    {{4, 1}, {1, 5}, {4, 5}},
    {{2, 3, 4}, {3, 1}, {2, 3, 4}},
    {{2, 1, 4}, {1, 3, 1}, {2, 3, 4}},
    {{0, 4}, {4}, {0, 4}},
    {{17, 1025}, {17, 1}, {17, 1025}},
    {{1025, 17}, {17}, {1025, 17}},
    {{2, 40000}, {40000}, {2, 40000}},
};

void check_answers(const Array& got, const Shape& shape, const std::vector<uint8_t>& wanted) {
  CHECK(got.dtype() == Dtype::u8);
  REQUIRE(got.shape() == shape);
  CHECK(got.to_vector<uint8_t>() == wanted);
}

std::vector<uint8_t> answers(bool (*f)(double, double), const Array& x, const Array& y, const Shape& z) {
  const std::vector<double> a = x.to_vector<double>(), b = y.to_vector<double>();
  std::vector<uint8_t> result;
  for (int64_t i = 0; i < z.numel(); ++i)
    result.push_back(f(a[static_cast<size_t>(broadcast_place(x.shape(), z, i))],
                       b[static_cast<size_t>(broadcast_place(y.shape(), z, i))]));
  return result;
}

}  // namespace

TEST_CASE("comparisons of two tensors") {
  const Poison poison;
  for (const Comparison& c : comparisons) {
    covers(std::string(c.name) + "(Tensor, Tensor)");
    for (const Pair& pair : pairs)
      for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::u8}) {
        if (pair.z.numel() > 2000 && dtype != Dtype::f32) continue;
        INFO(c.name, " ", fmt::format("{} {} {}", pair.x, pair.y, name_of(dtype)));
        const Array x = random_indices(pair.x, 3, 1).to(dtype), y = random_indices(pair.y, 3, 2).to(dtype);
        const Array z = c.of_tensors(Tensor(x), Tensor(y));
        check_answers(z, pair.z, answers(c.reference, x, y, pair.z));
      }
  }
}

TEST_CASE("comparisons with a number") {
  for (const Comparison& c : comparisons) {
    covers(std::string(c.name) + "(Tensor, double)");
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::u8})
      for (const double number : {1.0, 0.5, -1.0, 300.0}) {
        INFO(c.name, " ", number, " ", name_of(dtype));
        const Array x = random_indices({5, 7}, 3).to(dtype);
        check_answers(c.of_number(Tensor(x), number), {5, 7},
                      answers(c.reference, x, Array::full({}, number, {Dtype::f64}), {5, 7}));
      }
  }
  // the number is rounded to x's dtype, so that what was filled with it equals it
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    CHECK(equal(Tensor::full({1}, 0.1, {dtype}), 0.1).item() == 1);
  CHECK(greater_equal(Tensor::full({1}, 16777217, {Dtype::i32}), 16777216.5).item() == 1);  // not through f32
}

TEST_CASE("comparisons: NaN, infinities and signed zeros") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const Comparison& c : comparisons)
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
      INFO(c.name);
      const Array x = Array::from(std::vector<double>{nan, nan, 1, -infinity, infinity, 0, -0.0}, {7}).to(dtype);
      const Array y = Array::from(std::vector<double>{nan, 1, nan, infinity, infinity, -0.0, 0}, {7}).to(dtype);
      check_answers(c.of_tensors(Tensor(x), Tensor(y)), {7}, answers(c.reference, x, y, {7}));
      check_answers(c.of_number(Tensor(x), nan), {7}, answers(c.reference, x, Array::full({}, nan, {Dtype::f64}), {7}));
    }
}

TEST_CASE("comparisons don't record, and don't depend on the number of threads") {
  const Tensor x = Tensor(random_indices({100000}, 3).to(Dtype::f32)).set_requires_grad();
  const int before = threads();
  set_threads(1);
  const auto one = less(x, 1).to_vector<uint8_t>();
  set_threads(3);
  CHECK(less(x, 1).to_vector<uint8_t>() == one);
  set_threads(before);
}

TEST_CASE("logical ops") {
  struct Logical {
    const char* name;
    Array (*function)(const Array&, const Array&);
    bool (*reference)(double, double);
  };
  for (const Logical& c :
       {Logical{"logical_and", logical_and, [](double x, double y) { return x != 0 && y != 0; }},
        Logical{"logical_or", logical_or, [](double x, double y) { return x != 0 || y != 0; }},
        Logical{"logical_xor", logical_xor, [](double x, double y) { return (x != 0) != (y != 0); }}}) {
    covers(std::string(c.name) + "(Array, Array)");
    for (const Pair& pair : pairs) {
      INFO(c.name, fmt::format(" {} {}", pair.x, pair.y));
      const Array x = random_indices(pair.x, 3, 1).to(Dtype::u8), y = random_indices(pair.y, 3, 2).to(Dtype::u8);
      check_answers(c.function(x, y), pair.z, answers(c.reference, x, y, pair.z));
    }
  }
  covers("logical_not(Array)");
  check_answers(logical_not(Array::from(std::vector<uint8_t>{0, 1, 2, 255, 0}, {5})), {5}, {1, 0, 0, 0, 1});
  check_answers(logical_not(Array::zeros({2, 0}, {Dtype::u8})), {2, 0}, {});
}
