// SPDX-License-Identifier: Apache-2.0
// autograd/ops/reduce.h: prod, var, standard_deviation and cumsum.
#include <cmath>
#include <limits>
#include <numeric>

#include "core/kernels/reduce/product.h"
#include "core/thread_team.h"
#include "tests/guarded.h"
#include "tests/ops/reduce.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

// Factors so near 1, on either side of 0, that the product of 20,000 stays a number.
double near_one(double normal, double uniform) { return (normal < 0 ? -1 : 1) * (0.98 + 0.04 * uniform); }

double product_of(const Line& line) {
  return std::accumulate(line.begin(), line.end(), 1.0, [](double x, double y) { return x * y; });
}

double variance_of(const Line& line, double correction) {
  const auto n = static_cast<double>(line.size());
  const double mean = std::accumulate(line.begin(), line.end(), 0.0) / n;
  double squares = 0;
  for (const double value : line) squares += (value - mean) * (value - mean);
  return squares / (n - correction);
}

std::vector<double> gradient_of_prod(const std::vector<double>& values, const Shape& shape, int64_t dim) {
  const Tensor x = Tensor::from(values, shape).set_requires_grad();
  const Tensor y = prod(x, dim);
  y.backward(Array::full(y.shape(), 2, y.options()));
  return x.grad().to_vector<double>();
}

}  // namespace

TEST_CASE("prod") {
  // differences mean little for the product of thousands
  const ReductionOptions options{
      .generate = near_one, .tolerances = {.f32 = 4e-5}, .of_nothing = true, .at_most = 1100};
  run_reduction("prod", prod, product_of, options);
  run_total("prod(Tensor)", prod, product_of, options);
}

TEST_CASE("prod of long lines") {
  for (const Shape& shape : {Shape{4097}, Shape{20000}, Shape{9000, 2}, Shape{5000, 3}}) {
    Numbers x(shape);
    for (int64_t i = 0; i < shape.numel(); ++i) x[i] = near_one(i % 3 == 0 ? -1 : 1, static_cast<double>(i % 17) / 16);
    const std::vector<double> gradient = gradient_of_prod(x.at, shape, 0);
    const Numbers y = along(x, 0, false, product_of);
    double worst = 0;
    for (int64_t i = 0; i < shape.numel(); ++i) {
      const double wanted = 2 * y[i % shape.product(1, shape.rank())] / x[i];
      worst = std::max(worst, std::abs(gradient[static_cast<size_t>(i)] - wanted) / std::abs(wanted));
    }
    CHECK(worst < 1e-11);
  }
}

TEST_CASE("prod: gradients with zeros") {
  using Values = std::vector<double>;
  CHECK(gradient_of_prod({2, 3, 4}, {3}, 0) == Values{24, 16, 12});
  CHECK(gradient_of_prod({2, 0, 4}, {3}, 0) == Values{0, 16, 0});
  CHECK(gradient_of_prod({0, 0, 4}, {3}, 0) == Values{0, 0, 0});
  CHECK(gradient_of_prod({0}, {1}, 0) == Values{2});
  CHECK(gradient_of_prod({2, 5, 0, 6, 4, 0}, {3, 2}, 0) == Values{0, 0, 16, 0, 0, 60});
  // in every lane and step of a long line, and the same as columns
  for (const Shape& shape : {Shape{150}, Shape{150, 2}})
    for (const int64_t zeros : {1, 2})
      for (int64_t zero = 0; zero + zeros <= 150; ++zero) {
        Numbers x(shape), wanted(shape);
        std::fill(x.at.begin(), x.at.end(), 1.0);
        for (int64_t j = 0; j < shape.product(1, shape.rank()); ++j) {
          for (int64_t k = zero; k < zero + zeros; ++k) x[k * shape.product(1, shape.rank()) + j] = 0;
          if (zeros == 1) wanted[zero * shape.product(1, shape.rank()) + j] = 2;
        }
        if (gradient_of_prod(x.at, shape, 0) != wanted.at) FAIL_CHECK(fmt::format("{} zeros at {}", zeros, zero));
      }
}

TEST_CASE("prod: no division, so nothing is lost where the whole product underflows, or is infinite") {
  using Values = std::vector<double>;
  CHECK(gradient_of_prod({1e-200, 1e-200, 1e200}, {3}, 0) == Values{2 * (1e-200 * 1e200), 2 * (1e-200 * 1e200), 0});
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(gradient_of_prod({infinity, 3, 5}, {3}, 0) == Values{30, infinity, infinity});
}

TEST_CASE("prod on a team of several threads") {
  const int64_t n = 150;
  for (const int64_t inner : {int64_t{1}, int64_t{3}}) {
    const Shape shape{n, inner};
    std::vector<float> values;
    for (int64_t i = 0; i < shape.numel(); ++i) values.push_back(1 + 0.01f * static_cast<float>(i % 7));
    const Tensor x = Tensor::from(values, shape).set_requires_grad();
    const Tensor y = inner == 1 ? prod(reshape(x, {n}), 0) : prod(x, 0);
    const Array dy = Array::full(y.shape(), 1);
    y.backward(dy);
    const ProductWalk walk{n, inner};
    const Array partial = Array::empty({walk.lanes()}), later = Array::empty(shape),
                earlier = Array::empty({walk.lanes()});
    const Array out = Array::empty({inner}), dx = Array::empty(shape);
    const float* in = x.value().data<float>();
    run_rows_thread_team(Product<float>{in, partial.data<float>(), out.data<float>(), walk}, 1, 3);
    run_rows_thread_team(ProductBackward<float>{in, dy.data<float>(), dx.data<float>(), later.data<float>(),
                                                earlier.data<float>(), walk, false},
                         1, 3);
    CHECK(out.to_vector<float>() == y.to_vector<float>());
    CHECK(dx.to_vector<float>() == x.grad().to_vector<float>());
  }
}

TEST_CASE("prod: the gradient of columns in several strips stays within its memory") {
  const int64_t n = 2, inner = 1536;  // whole pages of doubles, so that both ends are guarded
  std::vector<double> values(static_cast<size_t>(n * inner)), ones(static_cast<size_t>(inner), 1), wanted;
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(1 + i % 5);
  for (size_t i = 0; i < values.size(); ++i) wanted.push_back(values[(i + ones.size()) % values.size()]);
  const Guarded<double> x(values), dy(ones), dx(values), later(values), earlier(ones);
  const ProductWalk walk{n, inner};
  for (int64_t row = 0; row < walk.strips(); ++row)
    ProductBackward<double>{x.data(), dy.data(), dx.data(), later.data(), earlier.data(), walk, false}(SerialTeam{},
                                                                                                       row);
  CHECK(std::equal(wanted.begin(), wanted.end(), dx.values().begin()));
}

TEST_CASE("var and standard_deviation") {
  run_reduction(
      "var", [](const Tensor& x, int64_t dim, bool keep) { return var(x, dim, {.keep = keep}); },
      [](const Line& line) { return variance_of(line, 1); }, {.at_least = 2}, "VarianceOptions");
  run_reduction(
      "var", [](const Tensor& x, int64_t dim, bool keep) { return var(x, dim, {.correction = 0, .keep = keep}); },
      [](const Line& line) { return variance_of(line, 0); }, {}, "VarianceOptions");
  run_reduction(
      "standard_deviation",
      [](const Tensor& x, int64_t dim, bool keep) { return standard_deviation(x, dim, {.keep = keep}); },
      [](const Line& line) { return std::sqrt(variance_of(line, 1)); }, {.at_least = 3}, "VarianceOptions");
  run_total(
      "var(Tensor, VarianceOptions)", [](const Tensor& x) { return var(x); },
      [](const Line& line) { return variance_of(line, 1); }, {.at_least = 2});
  run_total(
      "var(Tensor, VarianceOptions)", [](const Tensor& x) { return var(x, {.correction = 0.5}); },
      [](const Line& line) { return variance_of(line, 0.5); }, {});
  run_total(
      "standard_deviation(Tensor, VarianceOptions)",
      [](const Tensor& x) { return standard_deviation(x, {.correction = 0}); },
      [](const Line& line) { return std::sqrt(variance_of(line, 0)); }, {.at_least = 2});
  CHECK(var(Tensor::from({1, 2, 3, 6}, {2, 2}), {.keep = true}).shape() == Shape({1, 1}));
}

TEST_CASE("var: far from zero, and standard_deviation of equal numbers") {
  // the difference of squares would lose everything here
  const Tensor far = Tensor::from({10000, 10001, 10002}, {3});
  CHECK(var(far, 0).item() == doctest::Approx(1).epsilon(1e-6));
  CHECK(var(Tensor::full({1000}, 3, {Dtype::bf16})).item() == 0);
  for (const Shape& shape : {Shape{4}, Shape{4, 3}}) {
    const Tensor x = Tensor::full(shape, 2.5).set_requires_grad();
    const Tensor y = standard_deviation(x, 0);
    CHECK(y.to_vector<double>() == std::vector<double>(static_cast<size_t>(y.numel()), 0));
    y.backward(Array::full(y.shape(), 1));
    CHECK(x.grad().to_vector<double>() == std::vector<double>(static_cast<size_t>(x.numel()), 0));
  }
  // nor has a deviation a gradient that is too small to be more than 0
  const Tensor tiny = Tensor::from({1e-30f, -1e-30f}, {2}).set_requires_grad();
  const Tensor none = standard_deviation(tiny, 0);
  CHECK(none.item() == 0);
  none.backward();
  CHECK(tiny.grad().to_vector<float>() == std::vector<float>{0, 0});
}

TEST_CASE("cumsum") {
  for (const AlongCase& c : along_cases)
    for (const bool exclusive : {false, true})
      for (const bool reverse : {false, true}) {
        if ((exclusive || reverse) && c.shape.numel() > 1000) continue;
        run({.covers = "cumsum(Tensor, int64_t, CumulativeOptions)",
             .name = fmt::format("dim {}{}{}", c.dim, exclusive ? ", exclusive" : "", reverse ? ", reverse" : ""),
             .function =
                 [=](std::span<const Tensor> x) {
                   return cumsum(x[0], c.dim, {.exclusive = exclusive, .reverse = reverse});
                 },
             .reference =
                 [=](std::span<const Numbers> x) {
                   Numbers y(c.shape);
                   for_lines(c.shape, c.dim, [&](int64_t, std::vector<int64_t> places) {
                     if (reverse) std::reverse(places.begin(), places.end());
                     double total = 0;
                     for (const int64_t place : places) {
                       y[place] = exclusive ? total : total + x[0][place];
                       total += x[0][place];
                     }
                   });
                   return y;
                 },
             .inputs = {{c.shape}}});
      }
  // bf16 keeps the sum itself in f64: 256 + 1 is 256 in bf16
  const Tensor ones = Tensor::full({1000, 2}, 1, {Dtype::bf16});
  CHECK(cumsum(ones, 0).to_vector<double>().back() == 1000);
  CHECK(cumsum(reshape(ones, {2, 1000}), 1).to_vector<double>().back() == 1000);
}
