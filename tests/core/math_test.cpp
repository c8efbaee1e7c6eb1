// SPDX-License-Identifier: Apache-2.0
// core/math.h against double libm over the whole range of float, and its special values.
#include "core/math.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/core/accuracy.h"

namespace math = moxie::math;
using namespace moxie::testing;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float quiet_nan = std::numeric_limits<float>::quiet_NaN();
constexpr float smallest = std::numeric_limits<float>::denorm_min();
constexpr float largest = std::numeric_limits<float>::max();

double reference_sigmoid(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
double reference_softplus(double x) { return (x > 0 ? x : 0 * x) + std::log1p(std::exp(-std::abs(x))); }

}  // namespace

TEST_CASE("ulps_between counts neighbours") {
  CHECK(ulps_between(1.0f, 1.0) == 0.0);
  CHECK(ulps_between(std::nextafter(1.0f, 2.0f), 1.0) == 1.0);
  CHECK(ulps_between(smallest, 0.0) == 1.0);
  CHECK(ulps_between(infinity, std::ldexp(1.0, 130)) == 0.0);
  CHECK(ulps_between(infinity, static_cast<double>(largest)) == 1.0);
}

TEST_CASE("math: accuracy over the whole range of float") {
  check_accuracy(
      "exp", 2.0, [](float x) { return math::exp(x); }, [](double x) { return std::exp(x); });
  check_accuracy(
      "exp_nonpositive", 2.0, [](float x) { return math::exp_nonpositive(-math::abs(x)); },
      [](double x) { return std::exp(-std::abs(x)); });
  check_accuracy(
      "log", 2.0, [](float x) { return math::log(x); }, [](double x) { return std::log(x); });
  check_accuracy(
      "log1p", 3.0, [](float x) { return math::log1p(x); }, [](double x) { return std::log1p(x); });
  check_accuracy(
      "tanh", 4.0, [](float x) { return math::tanh(x); }, [](double x) { return std::tanh(x); });
  check_accuracy(
      "erf", 4.0, [](float x) { return math::erf(x); }, [](double x) { return std::erf(x); });
  check_accuracy(
      "sigmoid", 4.0, [](float x) { return math::sigmoid(x); }, reference_sigmoid);
  check_accuracy(
      "softplus", 4.0, [](float x) { return math::softplus(x); }, reference_softplus);
  check_accuracy(
      "sqrt", 0.5, [](float x) { return math::sqrt(x); }, [](double x) { return std::sqrt(x); });
}

TEST_CASE_TEMPLATE("math: special values", T, float, double) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

  CHECK(math::exp(-inf) == T(0));
  CHECK(math::exp(inf) == inf);
  CHECK(math::exp(T(0)) == T(1));
  CHECK(math::exp(T(-1e30)) == T(0));
  CHECK(math::exp(T(1e30)) == inf);

  CHECK(math::log(T(0)) == -inf);
  CHECK(math::log(-T(0)) == -inf);
  CHECK(math::log(inf) == inf);
  CHECK(math::log(T(1)) == T(0));
  CHECK(std::isnan(math::log(T(-1))));
  CHECK(std::isnan(math::log(-inf)));
  CHECK(std::isnan(math::log(-std::numeric_limits<T>::denorm_min())));

  CHECK(math::log1p(T(0)) == T(0));
  CHECK(math::log1p(T(-1)) == -inf);
  CHECK(math::log1p(inf) == inf);
  CHECK(std::isnan(math::log1p(T(-1.5))));
  CHECK(std::isnan(math::log1p(-inf)));

  CHECK(math::tanh(inf) == T(1));
  CHECK(math::tanh(-inf) == T(-1));
  CHECK(math::tanh(T(30)) == T(1));
  CHECK(math::tanh(T(0)) == T(0));
  CHECK(std::signbit(math::tanh(-T(0))));

  CHECK(math::erf(inf) == T(1));
  CHECK(math::erf(-inf) == T(-1));
  CHECK(math::erf(T(6)) == T(1));
  CHECK(math::erf(T(0)) == T(0));
  CHECK(std::signbit(math::erf(-T(0))));

  CHECK(math::sigmoid(inf) == T(1));
  CHECK(math::sigmoid(-inf) == T(0));
  CHECK(math::sigmoid(T(0)) == T(0.5));
  CHECK(math::sigmoid(T(50)) == T(1));
  CHECK(math::sigmoid(T(-800)) == T(0));

  CHECK(math::softplus(inf) == inf);
  CHECK(math::softplus(-inf) == T(0));
  CHECK(math::softplus(T(1000)) == T(1000));
  CHECK(math::softplus(T(-50)) == doctest::Approx(std::exp(-50.0)).epsilon(1e-6));

  CHECK(math::sqrt(T(0)) == T(0));
  CHECK(math::sqrt(inf) == inf);
  CHECK(std::isnan(math::sqrt(T(-1))));

  CHECK(std::isnan(math::exp(not_a_number)));
  CHECK(std::isnan(math::log(not_a_number)));
  CHECK(std::isnan(math::log1p(not_a_number)));
  CHECK(std::isnan(math::tanh(not_a_number)));
  CHECK(std::isnan(math::erf(not_a_number)));
  CHECK(std::isnan(math::sigmoid(not_a_number)));
  CHECK(std::isnan(math::softplus(not_a_number)));
  CHECK(std::isnan(math::sqrt(not_a_number)));
  CHECK(std::isnan(math::abs(not_a_number)));
}

TEST_CASE("math: negative NaN stays NaN") {
  const float negative = std::copysign(quiet_nan, -1.0f);
  CHECK(std::isnan(math::exp(negative)));
  CHECK(std::isnan(math::log(negative)));
  CHECK(std::isnan(math::log1p(negative)));
  CHECK(std::isnan(math::tanh(negative)));
  CHECK(std::isnan(math::erf(negative)));
  CHECK(std::isnan(math::sigmoid(negative)));
  CHECK(std::isnan(math::softplus(negative)));
}

TEST_CASE("math: min, max, abs, floor") {
  CHECK(math::max(1.0f, 2.0f) == 2.0f);
  CHECK(math::max(2.0f, 1.0f) == 2.0f);
  CHECK(math::min(1.0f, 2.0f) == 1.0f);
  CHECK(math::min(2, 1) == 1);
  CHECK(math::max(quiet_nan, 1.0f) == 1.0f);
  CHECK(std::isnan(math::max(1.0f, quiet_nan)));
  CHECK(math::min(quiet_nan, 1.0f) == 1.0f);
  CHECK(std::isnan(math::min(1.0f, quiet_nan)));
  CHECK(math::abs(-3.5f) == 3.5f);
  CHECK(math::abs(-3.5) == 3.5);
  CHECK(math::abs(-infinity) == infinity);
  CHECK(math::floor(-1.5f) == -2.0f);
  CHECK(math::floor(1.5) == 1.0);
}

TEST_CASE("math: exp overflows and underflows where it should") {
  CHECK(math::exp(88.72283f) < infinity);  // the largest float whose exponential is a float
  CHECK(math::exp(88.72284f) == infinity);
  CHECK(math::exp(-103.9f) == smallest);
  CHECK(math::exp(-104.0f) == 0.0f);
  CHECK(math::log(smallest) == doctest::Approx(-103.27893));
  CHECK(math::log(largest) == doctest::Approx(88.72284));
}

TEST_CASE("math: exp never decreases on its way to zero") {
  const uint32_t first = std::bit_cast<uint32_t>(-86.0f), last = std::bit_cast<uint32_t>(-105.0f);
  float above = math::exp(-86.0f), above_nonpositive = math::exp_nonpositive(-86.0f);
  int64_t rises = 0;
  for (uint32_t bits = first; bits <= last; ++bits) {
    const float value = math::exp(std::bit_cast<float>(bits)),
                nonpositive = math::exp_nonpositive(std::bit_cast<float>(bits));
    rises += value > above || nonpositive > above_nonpositive;
    above = value;
    above_nonpositive = nonpositive;
  }
  CHECK(rises == 0);
}

TEST_CASE("math: exp_nonpositive, its ends and just above zero") {
  CHECK(math::exp_nonpositive(-infinity) == 0.0f);
  CHECK(math::exp_nonpositive(-1e30f) == 0.0f);
  CHECK(math::exp_nonpositive(-103.9f) == smallest);
  CHECK(math::exp_nonpositive(-104.0f) == 0.0f);
  CHECK(math::exp_nonpositive(0.0f) == 1.0f);
  CHECK(math::exp_nonpositive(-0.0f) == 1.0f);
  CHECK(std::isnan(math::exp_nonpositive(quiet_nan)));
  CHECK(std::isnan(math::exp_nonpositive(-quiet_nan)));
  CHECK(ulps_between(math::exp_nonpositive(1e-6f), std::exp(1e-6)) <= 2);
  CHECK(ulps_between(math::exp_nonpositive(40.0f), std::exp(40.0)) <= 2);
  CHECK(math::exp_nonpositive(-2.0) == std::exp(-2.0));
}

TEST_CASE("math: the normal distribution and its density, relative to themselves") {
  struct Part {
    float last;
    double bound;
  };
  // the bound grows with x^2: the error of the rounded square times the slope of exp
  for (const Part& part : {Part{2.0f, 4e-7}, Part{5.0f, 1.5e-6}, Part{13.0f, 1.1e-5}}) {
    double worst = 0, worst_density = 0;
    for (float x = -part.last; x <= part.last; x += 1.0f / 4099) {
      const math::Normal got = math::normal(x);
      const double at = static_cast<double>(x), probability = 0.5 * std::erfc(-at / std::sqrt(2.0));
      const double density = std::exp(-0.5 * at * at) / std::sqrt(2 * std::acos(-1.0));
      worst = std::max(worst, std::abs(static_cast<double>(got.probability) / probability - 1));
      worst_density = std::max(worst_density, std::abs(static_cast<double>(got.density) / density - 1));
    }
    CAPTURE(part.last);
    CHECK(worst <= part.bound);
    CHECK(worst_density <= part.bound);
  }
  for (const float x : {14.5f, 100.0f, 1e30f, infinity}) {
    CAPTURE(x);
    CHECK(math::normal(-x).probability == 0.0f);
    CHECK(math::normal(x).probability == 1.0f);
    CHECK(math::normal(x).density == 0.0f);
    CHECK(math::normal(-x).density == 0.0f);
  }
  CHECK(math::normal(0.0f).probability == 0.5f);
  CHECK(std::isnan(math::normal(quiet_nan).probability));
  CHECK(std::isnan(math::normal(-quiet_nan).density));
  CHECK(math::normal(1.0).probability == doctest::Approx(0.84134474606854293).epsilon(1e-15));
  CHECK(math::normal(1.0).density == doctest::Approx(0.24197072451914337).epsilon(1e-15));
}

TEST_CASE("math: tanh and erf are odd and stay within one") {
  int64_t not_odd = 0, outside = 0;
  for (uint32_t bits = 0; bits <= 0x7F800000u; bits += 4001) {
    const float x = std::bit_cast<float>(bits);
    not_odd += math::tanh(-x) != -math::tanh(x);
    not_odd += math::erf(-x) != -math::erf(x);
    outside += !(math::tanh(x) <= 1.0f && math::erf(x) <= 1.0f && math::sigmoid(x) <= 1.0f);
  }
  CHECK(not_odd == 0);
  CHECK(outside == 0);
}
