// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: elementwise ops of two operands and their broadcasting.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/ops/broadcast.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

using Function = Tensor (*)(const Tensor&, const Tensor&);
using Scalar = double (*)(double, double);

struct Pair {
  Shape x, y, z;
};

const std::vector<Pair> pairs = {
    // one shape
    {{}, {}, {}},
    {{0}, {0}, {0}},
    {{1}, {1}, {1}},
    {{31}, {31}, {31}},
    {{33}, {33}, {33}},
    {{1023}, {1023}, {1023}},
    {{1025}, {1025}, {1025}},
    {{17, 1025}, {17, 1025}, {17, 1025}},
    // a scalar, or a single element
    {{}, {3}, {3}},
    {{2, 3}, {}, {2, 3}},
    {{1}, {2, 3}, {2, 3}},
    {{1, 1, 1}, {1}, {1, 1, 1}},
    {{}, {1, 1}, {1, 1}},
    {{1}, {0}, {0}},
    {{2, 0}, {1, 1}, {2, 0}},
    // rows, columns, both
    {{4, 5}, {5}, {4, 5}},
    {{4, 5}, {1, 5}, {4, 5}},
    {{4, 5}, {4, 1}, {4, 5}},
    {{4, 1}, {1, 5}, {4, 5}},
    {{5}, {4, 1}, {4, 5}},
    {{2, 3, 4}, {3, 1}, {2, 3, 4}},
    {{2, 3, 4}, {2, 1, 4}, {2, 3, 4}},
    {{2, 1, 4}, {1, 3, 1}, {2, 3, 4}},
    {{2, 1, 3, 1, 2}, {2, 1, 2, 1}, {2, 2, 3, 2, 2}},
    {{0, 4}, {1, 4}, {0, 4}},
    {{3, 0, 2}, {3, 1, 1}, {3, 0, 2}},
    // sizes around 32 and 1024, and beyond the parallel threshold
    {{33, 31}, {31}, {33, 31}},
    {{31, 33}, {31, 1}, {31, 33}},
    {{1025}, {1025}, {1025}},
    {{17, 1025}, {1025}, {17, 1025}},
    {{17, 1025}, {17, 1}, {17, 1025}},
    {{1025, 17}, {17}, {1025, 17}},
    {{1025, 1}, {17}, {1025, 17}},
    {{5000}, {4, 1}, {4, 5000}},
    {{20000}, {}, {20000}},
    {{2, 1}, {5000}, {2, 5000}},
};

// Two ladders that never meet: 1/16 between a step of the one and the next of the other.
double even_sixteenths(double normal, double) { return std::round(normal * 8) / 8; }
double odd_sixteenths(double normal, double) { return std::round(normal * 8) / 8 + 0.0625; }

void run_binary(const std::string& name, Function function, Scalar reference, Generator of_y, Generator of_x = normal,
                Tolerances tolerances = {}) {
  for (const Pair& pair : pairs) {
    if (name.starts_with("operator") && pair.z.numel() > 1100) continue;  // the same function by another name
    run({.covers = name + "(Tensor, Tensor)",
         .function = [=](std::span<const Tensor> x) { return function(x[0], x[1]); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers z(pair.z);
               for (int64_t i = 0; i < z.shape.numel(); ++i)
                 z[i] = reference(x[0][broadcast_place(pair.x, pair.z, i)], x[1][broadcast_place(pair.y, pair.z, i)]);
               return z;
             },
         .inputs = {{pair.x, of_x}, {pair.y, of_y}},
         .tolerances = tolerances});
  }
}

}  // namespace

TEST_CASE("add and sub") {
  run_binary(
      "add", add, [](double x, double y) { return x + y; }, normal);
  run_binary(
      "operator+", [](const Tensor& x, const Tensor& y) { return x + y; }, [](double x, double y) { return x + y; },
      normal);
  run_binary(
      "sub", sub, [](double x, double y) { return x - y; }, normal);
  run_binary(
      "operator-", [](const Tensor& x, const Tensor& y) { return x - y; }, [](double x, double y) { return x - y; },
      normal);
}

TEST_CASE("mul and div") {
  run_binary(
      "mul", mul, [](double x, double y) { return x * y; }, normal);
  run_binary(
      "operator*", [](const Tensor& x, const Tensor& y) { return x * y; }, [](double x, double y) { return x * y; },
      normal);
  run_binary(
      "div", moxie::div, [](double x, double y) { return x / y; }, positive);
  run_binary(
      "operator/", [](const Tensor& x, const Tensor& y) { return x / y; }, [](double x, double y) { return x / y; },
      positive);
}

TEST_CASE("maximum and minimum") {
  run_binary(
      "maximum", maximum, [](double x, double y) { return std::max(x, y); }, odd_sixteenths, even_sixteenths);
  run_binary(
      "minimum", minimum, [](double x, double y) { return std::min(x, y); }, odd_sixteenths, even_sixteenths);
}

TEST_CASE("pow of two tensors") {
  run_binary("pow", moxie::pow, [](double x, double y) { return std::pow(x, y); }, normal, positive,
             {.f32 = 5e-5});  // a broadcast exponent's gradient sums 20,000 terms that nearly cancel, in any order
}

namespace {

struct Gradients {
  std::vector<double> z, dx, dy;
};

Gradients gradients(Function function, const std::vector<double>& x, const std::vector<double>& y, Dtype dtype) {
  const auto n = static_cast<int64_t>(x.size());
  const Tensor a = Tensor(Array::from(x, {n}).to(dtype)).set_requires_grad();
  const Tensor b = Tensor(Array::from(y, {n}).to(dtype)).set_requires_grad();
  const Tensor z = function(a, b);
  z.backward(Array::full({n}, 1, z.options()));
  return {z.to_vector<double>(), a.grad().to_vector<double>(), b.grad().to_vector<double>()};
}

// NaN is equal to NaN here.
void check_same(const std::vector<double>& got, const std::vector<double>& wanted) {
  REQUIRE(got.size() == wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("element ", i);
    CHECK((got[i] == wanted[i] || (std::isnan(got[i]) && std::isnan(wanted[i]))));
  }
}

const double quiet_nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("maximum and minimum: ties share the gradient, NaN propagates") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const std::vector<double> x{1, 2, 2, quiet_nan, 1, quiet_nan, -infinity, 0},
        y{2, 1, 2, 1, quiet_nan, quiet_nan, infinity, -0.0};
    const Gradients most = gradients(maximum, x, y, dtype), least = gradients(minimum, x, y, dtype);
    check_same(most.z, {2, 2, 2, quiet_nan, quiet_nan, quiet_nan, infinity, 0});
    check_same(most.dx, {0, 1, 0.5, 1, 1, 1, 0, 0.5});
    check_same(most.dy, {1, 0, 0.5, 1, 1, 1, 1, 0.5});
    check_same(least.z, {1, 1, 2, quiet_nan, quiet_nan, quiet_nan, -infinity, 0});
    check_same(least.dx, {1, 0, 0.5, 1, 1, 1, 1, 0.5});
    check_same(least.dy, {0, 1, 0.5, 1, 1, 1, 0, 0.5});
  }
}

TEST_CASE("pow: zeros, negative bases, infinities") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const Gradients of = gradients(moxie::pow, {0, 0, 0, 0, -2, -2, -2, 1, quiet_nan, 0, infinity},
                                   {0, 2, 0.5, -1, 3, 0.5, 0, quiet_nan, 0, 1, -1}, dtype);
    check_same(of.z, {1, 0, 0, infinity, -8, quiet_nan, 1, 1, 1, 0, 0});
    check_same(of.dx, {0, 0, infinity, -infinity, 12, quiet_nan, 0, quiet_nan, 0, 1, 0});
    check_same(of.dy, {0, 0, 0, -infinity, quiet_nan, quiet_nan, quiet_nan, 0, quiet_nan, 0, quiet_nan});
  }
}

TEST_CASE("binary ops: NaN and infinities keep their meaning") {
  const Tensor x = Tensor::from({1, -1, 0}, {3}), zero = Tensor::zeros({3});
  const auto quotient = (x / zero).to_vector<double>();
  CHECK(quotient[0] == std::numeric_limits<double>::infinity());
  CHECK(quotient[1] == -std::numeric_limits<double>::infinity());
  CHECK(quotient[2] != quotient[2]);
}
