// SPDX-License-Identifier: Apache-2.0
// core/math_extended.h against double libm over the whole range of float, and its special values.
#include "core/math_extended.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/core/accuracy.h"

namespace math = moxie::math;
using namespace moxie::testing;

TEST_CASE("extended math: accuracy over the whole range of float") {
  check_accuracy(
      "expm1", 2.0, [](float x) { return math::expm1(x); }, [](double x) { return std::expm1(x); });
  // the C library's: what matters is that the right one is called
  check_accuracy(
      "sin", 2.0, [](float x) { return math::sin(x); }, [](double x) { return std::sin(x); });
  check_accuracy(
      "cos", 2.0, [](float x) { return math::cos(x); }, [](double x) { return std::cos(x); });
  check_accuracy(
      "ceil", 0.0, [](float x) { return math::ceil(x); }, [](double x) { return std::ceil(x); });
  check_accuracy(
      "round_to_even", 0.0, [](float x) { return math::round_to_even(x); }, [](double x) { return std::nearbyint(x); });
  check_accuracy(
      "pow", 2.0, [](float x) { return math::pow(x, 1.5f); }, [](double x) { return std::pow(x, 1.5); });
}

TEST_CASE_TEMPLATE("extended math: special values", T, float, double) {
  constexpr T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();

  CHECK(math::expm1(-infinity) == T(-1));
  CHECK(math::expm1(infinity) == infinity);
  CHECK(math::expm1(T(0)) == T(0));
  CHECK(math::expm1(T(1e-30)) == T(1e-30));
  CHECK(std::isnan(math::expm1(nan)));

  CHECK(math::sign(T(-2)) == T(-1));
  CHECK(math::sign(T(0)) == T(0));
  CHECK(math::sign(infinity) == T(1));
  CHECK(math::sign(nan) == T(0));

  CHECK(math::round_to_even(T(0.5)) == T(0));
  CHECK(math::round_to_even(T(1.5)) == T(2));
  CHECK(math::round_to_even(T(-2.5)) == T(-2));
  CHECK(math::ceil(T(-0.5)) == T(0));
  CHECK(math::ceil(T(1.25)) == T(2));

  CHECK(math::pow(T(-2), T(3)) == T(-8));
  CHECK(std::isnan(math::pow(T(-2), T(0.5))));
  CHECK(math::pow(nan, T(0)) == T(1));
}

TEST_CASE_TEMPLATE("extended math: the functions of angles", T, float, double) {
  const auto near = [](T got, double wanted) {
    CHECK(static_cast<double>(got) == doctest::Approx(wanted).epsilon(1e-6));
  };
  near(math::sin(T(0.5)), std::sin(0.5));
  near(math::cos(T(0.5)), std::cos(0.5));
  near(math::tan(T(0.5)), std::tan(0.5));
  near(math::asin(T(0.5)), std::asin(0.5));
  near(math::acos(T(0.5)), std::acos(0.5));
  near(math::atan(T(0.5)), std::atan(0.5));
  near(math::sinh(T(0.5)), std::sinh(0.5));
  near(math::cosh(T(0.5)), std::cosh(0.5));
  near(math::asinh(T(0.5)), std::asinh(0.5));
  near(math::acosh(T(1.5)), std::acosh(1.5));
  near(math::atanh(T(0.5)), std::atanh(0.5));
}
