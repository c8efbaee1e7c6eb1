// SPDX-License-Identifier: Apache-2.0
// nn/init.h: initial values by name have the moments that their formulas promise.
#include "nn/init.h"

#include <set>

#include "nn/layers.h"
#include "nn/orthogonal.h"
#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;

namespace {

struct Moments {
  double mean = 0, deviation = 0, largest = 0, kurtosis = 0;
};
Moments moments(const Array& array) {
  const Numbers values = array.to_vector<double>();
  const auto count = static_cast<double>(values.size());
  Moments m;
  for (const double v : values) m.mean += v / count, m.largest = std::max(m.largest, std::abs(v));
  double second = 0, fourth = 0;
  for (const double v : values) second += std::pow(v - m.mean, 2) / count, fourth += std::pow(v - m.mean, 4) / count;
  m.deviation = std::sqrt(second);
  m.kurtosis = fourth / (second * second);
  return m;
}

constexpr double normal_kurtosis = 3, uniform_kurtosis = 1.8;

// 60,000 numbers: the deviation is known to about 0.3%.
void check_moments(const char* name, const InitOptions& options, double deviation, double kurtosis) {
  INFO(name);
  const Moments m = moments(Initializer(4).draw(name, {300, 200}, options));
  CHECK(std::abs(m.mean) < 0.02 * deviation);
  CHECK(m.deviation == doctest::Approx(deviation).epsilon(0.012));
  CHECK(m.kurtosis == doctest::Approx(kurtosis).epsilon(0.05));
  if (kurtosis == uniform_kurtosis) {
    CHECK(m.largest < std::sqrt(3.0) * deviation);
    CHECK(m.largest > 0.999 * std::sqrt(3.0) * deviation);
  }
}

// The largest distance of x x^T / gain^2 from 1 (of x^T x, where there are more rows).
double distance_from_orthonormal(const Array& x, double gain) {
  const int64_t rows = x.dim(0), cols = x.dim(1), side = std::min(rows, cols), inner = std::max(rows, cols);
  const Numbers v = x.to_vector<double>();
  const auto at = [&](int64_t i, int64_t j) {
    return v[static_cast<size_t>(rows <= cols ? i * cols + j : j * cols + i)];
  };
  double worst = 0;
  for (int64_t i = 0; i < side; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < inner; ++k) sum += at(i, k) * at(j, k);
      worst = std::max(worst, std::abs(sum / (gain * gain) - (i == j ? 1 : 0)));
    }
  return worst;
}

}  // namespace

TEST_CASE("Initializer: moments by name, for a weight [300, 200]") {
  check_moments("normal", {.deviation = 0.3}, 0.3, normal_kurtosis);
  check_moments("uniform", {.bound = 0.3}, 0.3 / std::sqrt(3.0), uniform_kurtosis);
  check_moments("xavier_normal", {}, std::sqrt(2.0 / 500), normal_kurtosis);
  check_moments("xavier_uniform", {.gain = 2}, 2 * std::sqrt(2.0 / 500), uniform_kurtosis);
  check_moments("glorot_normal", {.fan_in = 7, .fan_out = 11}, 1.0 / 3, normal_kurtosis);
  check_moments("glorot_uniform", {}, std::sqrt(2.0 / 500), uniform_kurtosis);
  check_moments("kaiming_normal", {}, std::sqrt(2.0 / 200), normal_kurtosis);
  check_moments("kaiming_uniform", {.gain = 1, .fan = Fan::out}, std::sqrt(1.0 / 300), uniform_kurtosis);
  check_moments("he_normal", {.gain = 1}, std::sqrt(1.0 / 200), normal_kurtosis);
  check_moments("he_uniform", {.fan = Fan::out}, std::sqrt(2.0 / 300), uniform_kurtosis);
  // Of a normal number cut at c: variance 1 - 2 c f(c) / (2 F(c) - 1) with density f and distribution F.
  check_moments("truncated_normal", {.deviation = 0.5}, 0.5 * 0.87963, 2.3655);
  check_moments("truncated_normal", {.deviation = 1, .cut = 0.5}, 0.28388, 1.8346);
  CHECK(moments(Initializer(1).draw("truncated_normal", {300, 200}, {.deviation = 0.5})).largest <= 1);
  CHECK(moments(Initializer(1).draw("truncated_normal", {300, 200}, {.deviation = 0.5})).largest > 0.999);
}

TEST_CASE("Initializer: constants") {
  Initializer init(1);
  CHECK(init.draw("zeros", {3}).to_vector<double>() == Numbers{0, 0, 0});
  CHECK(init.draw("ones", {3}).to_vector<double>() == Numbers{1, 1, 1});
  CHECK(init.draw("constant", {2}, {.value = -2.5}).to_vector<double>() == Numbers{-2.5, -2.5});
}

TEST_CASE("Initializer: orthogonal matrices, wide, tall, square and in batches") {
  for (const Shape& shape : {Shape{70, 110}, Shape{110, 70}, Shape{64, 64}, Shape{1, 5}, Shape{5, 1}}) {
    INFO(shape.to_string());
    CHECK(distance_from_orthonormal(Initializer(2).draw("orthogonal", shape, {.gain = 3}), 3) < 1e-6);
    CHECK(distance_from_orthonormal(orthonormalized(random(shape, 5)), 1) < 1e-14);
  }
  const Array batch = Initializer(2).orthogonal({3, 8, 5});
  for (int64_t i = 0; i < 3; ++i) CHECK(distance_from_orthonormal(batch.rows(i, 1).reshape({8, 5}), 1) < 1e-6);
  CHECK(difference(batch.rows(0, 1), batch.rows(1, 1)) > 0.1);
  // Uniform over all: an element of a big one is nearly normal with variance 1 / n, its sign is free.
  const Moments m = moments(Initializer(3).orthogonal({200, 200}));
  CHECK(m.deviation == doctest::Approx(1 / std::sqrt(200.0)).epsilon(1e-3));
  CHECK(std::abs(m.mean) < 0.02 / std::sqrt(200.0));
  CHECK(m.kurtosis == doctest::Approx(3).epsilon(0.05));
  // The same space: row i depends on the first i rows alone.
  const Array x = random({4, 6}, 1), y = orthonormalized(x);
  const Numbers a = x.to_vector<double>(), b = y.to_vector<double>();
  double length = 0;
  for (size_t i = 0; i < 6; ++i) length += a[i] * a[i];
  for (size_t i = 0; i < 6; ++i) CHECK(b[i] == doctest::Approx(a[i] / std::sqrt(length)).epsilon(1e-14));
  CHECK(orthonormalized(Array::zeros({0, 3}, {.dtype = Dtype::f64})).numel() == 0);
}

TEST_CASE("Initializer: the same seed and order give the same numbers, every draw others") {
  for (const std::string_view name : initializer_names()) {
    INFO(std::string(name));
    Initializer a(9), b(9), c(10);
    const Array first = a.draw(name, {30, 20}), second = a.draw(name, {30, 20});
    CHECK(same_bits(first, b.draw(name, {30, 20})));
    CHECK(first.dtype() == Dtype::f32);
    if (name == "zeros" || name == "ones" || name == "constant") continue;
    CHECK_FALSE(same_bits(first, second));
    CHECK_FALSE(same_bits(first, c.draw(name, {30, 20})));
  }
  const int before = threads();  // parts of 4096 elements, drawn by any thread
  set_threads(1);
  const Array one = Initializer(1).truncated_normal({400, 300}, 1);
  set_threads(2);
  CHECK(same_bits(one, Initializer(1).truncated_normal({400, 300}, 1)));
  set_threads(before);
}

TEST_CASE("Linear: initial weights by name") {
  Initializer init(1);
  const Linear orthogonal(20, 10, init, {.bias = true, .gain = 2, .initial = "orthogonal"});
  CHECK(distance_from_orthonormal(orthogonal.weight.value(), 2) < 1e-6);
  CHECK(orthogonal.bias.has_value());
  Initializer a(3), b(3);
  CHECK(same_bits(Linear(7, 5, a, false, 0.5).weight.value(), b.normal({5, 7}, 0.5 / std::sqrt(7.0))));
}

TEST_CASE("Initializer: messages") {
  Initializer init(1);
  CHECK(refusal([&] {
          init.draw("lecun", {2, 2});
        }) ==
        "Initializer: there is no 'lecun', only normal, truncated_normal, uniform, xavier_normal, xavier_uniform, "
        "kaiming_normal, kaiming_uniform, orthogonal, zeros, ones, constant, glorot_normal, glorot_uniform, he_normal, "
        "he_uniform");
  CHECK(refusal([&] { init.draw("xavier_normal", {5}); }) ==
        "Initializer: xavier_normal needs a weight [.., out, in] with at least two dimensions, got [5]; or set fan_in "
        "and fan_out");
  CHECK(init.draw("xavier_normal", {5}, {.fan_in = 5, .fan_out = 1}).numel() == 5);
  CHECK(refusal([&] {
          init.draw("he_normal", {5, 5}, {.fan_in = -1});
        }) == "Initializer: fans must not be negative, got -1 and 0");
  CHECK(refusal([&] { init.normal({2}, -1); }) == "Initializer: the standard deviation must not be negative, got -1");
  CHECK(refusal([&] { init.uniform({2}, -1); }) == "Initializer: the bound must not be negative, got -1");
  CHECK(refusal([&] { init.truncated_normal({2}, -1); }) ==
        "Initializer: the standard deviation must not be negative, got -1");
  CHECK(refusal([&] { init.truncated_normal({2}, 1, 0.05); }) ==
        "Initializer: the cut must be at least 0.1 standard deviations, got 0.05");
  CHECK(refusal([&] { init.orthogonal({4}); }) == "Initializer: orthogonal needs matrices [.., rows, cols], got [4]");
  CHECK(refusal([] {
          orthonormalized(Array::zeros({2, 3}, {.dtype = Dtype::f64}));
        }) == "orthonormalized: the rows are linearly dependent");
  CHECK(refusal([] {
          orthonormalized(Array::zeros({2, 3}));
        }) == "orthonormalized: x must be f64 matrices [.., rows, cols] on the CPU, got f32 [2, 3] on cpu");
}
