// SPDX-License-Identifier: Apache-2.0
// autograd/ops/elementwise.h: ops of one operand.
#include "tests/ops/unary.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

// The input, no nearer than a tenth to a place where it has a kink or a jump.
double within_steps(double normal, double uniform) { return std::floor(normal * 2) + 0.2 + 0.6 * uniform; }
double around_integers(double normal, double uniform) { return std::floor(normal * 2) - 0.3 + 0.6 * uniform; }
double away_from_bounds(double normal, double) {  // of clamp from -0.5 to 1
  const double shift = std::abs(normal + 0.5) < 0.125 || std::abs(normal - 1) < 0.125 ? 0.25 : 0;
  return normal + shift;
}
double below_one(double, double uniform) { return 1.8 * uniform - 0.9; }
double above_one(double, double uniform) { return 1.25 + 2 * uniform; }
double above_minus_one(double, double uniform) { return 3 * uniform - 0.75; }

}  // namespace

TEST_CASE("elementwise ops of one operand") {
  run_unary(
      "neg", neg, [](double x) { return -x; }, normal);
  run_unary(
      "operator-", [](const Tensor& x) { return -x; }, [](double x) { return -x; }, normal);
  run_unary(
      "abs", moxie::abs, [](double x) { return std::abs(x); }, away_from_zero);
  run_unary(
      "square", square, [](double x) { return x * x; }, normal);
  run_unary(
      "reciprocal", reciprocal, [](double x) { return 1 / x; }, positive);
  run_unary(
      "sqrt", moxie::sqrt, [](double x) { return std::sqrt(x); }, positive);
  run_unary(
      "rsqrt", moxie::rsqrt, [](double x) { return 1 / std::sqrt(x); }, positive);
}

TEST_CASE("exponentials, logarithms and erf") {
  run_unary(
      "exp", moxie::exp, [](double x) { return std::exp(x); }, normal);
  run_unary(
      "expm1", moxie::expm1, [](double x) { return std::expm1(x); }, normal);
  run_unary(
      "log", moxie::log, [](double x) { return std::log(x); }, positive);
  run_unary(
      "log1p", moxie::log1p, [](double x) { return std::log1p(x); }, above_minus_one);
  run_unary(
      "erf", moxie::erf, [](double x) { return std::erf(x); }, normal);
}

TEST_CASE("pow with a number") {
  const auto power = [](double exponent) { return [=](const Tensor& x) { return moxie::pow(x, exponent); }; };
  run_unary(
      "pow(Tensor, double)", power(2), [](double x) { return x * x; }, normal);
  run_unary(
      "pow(Tensor, double)", power(3), [](double x) { return x * x * x; }, normal);
  run_unary(
      "pow(Tensor, double)", power(-1.5), [](double x) { return std::pow(x, -1.5); }, positive);
  check_points("pow 0", power(0), {{0, 1, 0}, {-2, 1, 0}, {quiet_nan, 1, 0}, {infinity, 1, 0}});
  check_points("pow 1", power(1), {{0, 0, 1}, {-2, -2, 1}, {quiet_nan, quiet_nan, 1}, {infinity, infinity, 1}});
  check_points("pow 2", power(2),
               {{0, 0, 0}, {-2, 4, -4}, {quiet_nan, quiet_nan, quiet_nan}, {-infinity, infinity, -infinity}});
  check_points("pow 3", power(3), {{0, 0, 0}, {-2, -8, 12}, {infinity, infinity, infinity}});
  check_points("pow 0.5", power(0.5),
               {{0, 0, infinity}, {4, 2, 0.25}, {-2, quiet_nan, quiet_nan}, {infinity, infinity, 0}});
  check_points("pow -1", power(-1), {{0, infinity, -infinity}, {-2, -0.5, -0.25}, {infinity, 0, 0}});
}

TEST_CASE("clamp") {
  run_unary(
      "clamp(Tensor, double, double)", [](const Tensor& x) { return clamp(x, -0.5, 1); },
      [](double x) { return std::min(std::max(x, -0.5), 1.0); }, away_from_bounds);
  check_points(
      "clamp", [](const Tensor& x) { return clamp(x, -0.5, 1); },
      {{-0.5, -0.5, 1}, {1, 1, 1}, {0, 0, 1}, {-2, -0.5, 0}, {2, 1, 0}, {quiet_nan, quiet_nan, 0}, {infinity, 1, 0}});
  check_points("clamp, open above", [](const Tensor& x) { return clamp(x, 0, infinity); },
               {{-1, 0, 0}, {0, 0, 1}, {5, 5, 1}, {infinity, infinity, 1}});
  check_points("clamp to one number", [](const Tensor& x) { return clamp(x, 2, 2); },
               {{1, 2, 0}, {2, 2, 1}, {3, 2, 0}});
}

TEST_CASE("steps") {
  run_unary(
      "floor", moxie::floor, [](double x) { return std::floor(x); }, within_steps);
  run_unary(
      "ceil", moxie::ceil, [](double x) { return std::ceil(x); }, within_steps);
  run_unary(
      "round", moxie::round, [](double x) { return std::nearbyint(x); }, around_integers);
  run_unary(
      "sign", sign, [](double x) { return x > 0 ? 1.0 : -1.0; }, away_from_zero);
  check_points("floor", moxie::floor, {{-0.5, -1, 0}, {2, 2, 0}, {quiet_nan, quiet_nan, 0}, {-infinity, -infinity, 0}});
  check_points("ceil", moxie::ceil, {{-0.5, 0, 0}, {2, 2, 0}, {quiet_nan, quiet_nan, 0}, {infinity, infinity, 0}});
  check_points("round", moxie::round,
               {{0.5, 0, 0}, {1.5, 2, 0}, {2.5, 2, 0}, {-0.5, 0, 0}, {-1.5, -2, 0}, {quiet_nan, quiet_nan, 0}});
  check_points("sign", sign, {{0, 0, 0}, {-0.0, 0, 0}, {-3, -1, 0}, {quiet_nan, quiet_nan, 0}, {infinity, 1, 0}});
  // whatever comes from above
  const Tensor x = Tensor::from({0.5}, {1}).set_requires_grad();
  moxie::floor(x).backward(Array::full({1}, quiet_nan));
  CHECK(x.grad().item() == 0);
}

TEST_CASE("trigonometric and hyperbolic functions") {
  run_unary(
      "sin", moxie::sin, [](double x) { return std::sin(x); }, normal);
  run_unary(
      "cos", moxie::cos, [](double x) { return std::cos(x); }, normal);
  run_unary(
      "tan", moxie::tan, [](double x) { return std::tan(x); }, moderate);
  run_unary(
      "asin", moxie::asin, [](double x) { return std::asin(x); }, below_one);
  run_unary(
      "acos", moxie::acos, [](double x) { return std::acos(x); }, below_one);
  run_unary(
      "atan", moxie::atan, [](double x) { return std::atan(x); }, normal);
  run_unary(
      "sinh", moxie::sinh, [](double x) { return std::sinh(x); }, normal);
  run_unary(
      "cosh", moxie::cosh, [](double x) { return std::cosh(x); }, normal);
  run_unary("tanh", moxie::tanh, [](double x) { return std::tanh(x); }, normal, {.bf16 = 3e-2});
  run_unary(
      "asinh", moxie::asinh, [](double x) { return std::asinh(x); }, normal);
  run_unary(
      "acosh", moxie::acosh, [](double x) { return std::acosh(x); }, above_one);
  run_unary(
      "atanh", moxie::atanh, [](double x) { return std::atanh(x); }, below_one);
}

TEST_CASE("elementwise ops: kinks, poles and NaN") {
  check_points("abs", moxie::abs,
               {{0, 0, 0}, {-0.0, 0, 0}, {-2, 2, -1}, {quiet_nan, quiet_nan, 0}, {-infinity, infinity, -1}});
  check_points("reciprocal", reciprocal,
               {{0, infinity, -infinity}, {infinity, 0, 0}, {quiet_nan, quiet_nan, quiet_nan}});
  check_points("rsqrt", moxie::rsqrt, {{0, infinity, -infinity}, {4, 0.5, -0.0625}, {-1, quiet_nan, quiet_nan}});
  check_points("log1p", moxie::log1p, {{-1, -infinity, infinity}, {0, 0, 1}, {-2, quiet_nan, -1}});
  check_points("expm1", moxie::expm1, {{-infinity, -1, 0}, {0, 0, 1}, {infinity, infinity, infinity}});
  check_points("erf", moxie::erf, {{-infinity, -1, 0}, {infinity, 1, 0}, {quiet_nan, quiet_nan, quiet_nan}});
  check_points("asin", moxie::asin, {{2, quiet_nan, quiet_nan}, {0, 0, 1}});
  // accurate near 0, where 1 + x rounds to 1
  for (const UnaryFunction& function : {UnaryFunction(moxie::expm1), UnaryFunction(moxie::log1p)})
    CHECK(function(Tensor::scalar(1e-12)).item() == doctest::Approx(1e-12).epsilon(1e-6));
}
