// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: sums, means and logsumexp.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

struct Case {
  Shape shape;
  int64_t dim;
};

const std::vector<Case> cases = {
    {{1}, 0},        {{0}, 0},        {{7}, 0},         {{7}, -1},        {{3, 0}, 0},    {{0, 3}, 1},
    {{2, 3, 4}, 0},  {{2, 3, 4}, 1},  {{2, 3, 4}, 2},   {{2, 3, 4}, -3},  {{1, 5}, 0},    {{5, 1}, 0},
    {{5, 1}, 1},     {{1, 1, 1}, 1},  {{31, 33}, 0},    {{31, 33}, 1},    {{1023, 3}, 0}, {{1025, 3}, 0},
    {{3, 1023}, 1},  {{3, 1025}, -1}, {{2, 127, 3}, 1}, {{2, 129, 3}, 1}, {{4095}, 0},    {{4097}, 0},
    {{17, 1025}, 0}, {{17, 1025}, 1}, {{1025, 17}, 0},  {{1025, 17}, 1},  {{20000}, 0},   {{3, 40, 150}, 1},
    {{2, 9000}, 1},  {{9000, 2}, 0},
};

// f of the numbers along dimension `dim`, for every place of the others.
Numbers along(const Numbers& x, int64_t dim, bool keep, const std::function<double(const std::vector<double>&)>& f) {
  if (dim < 0) dim += x.shape.rank();
  const int64_t outer = x.shape.product(0, dim), n = x.shape[dim], inner = x.shape.product(dim + 1, x.shape.rank());
  Numbers y(keep ? x.shape.with(dim, 1) : x.shape.without(dim));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      std::vector<double> line;
      for (int64_t k = 0; k < n; ++k) line.push_back(x[(o * n + k) * inner + i]);
      y[o * inner + i] = f(line);
    }
  return y;
}

double sum_of(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}
double mean_of(const std::vector<double>& values) { return sum_of(values) / static_cast<double>(values.size()); }
double logsumexp_of(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) total += std::exp(value);
  return std::log(total);
}

using Function = Tensor (*)(const Tensor&, int64_t, bool);

void run_reduction(const std::string& name, Function function, double (*reference)(const std::vector<double>&),
                   bool empty, Tolerances tolerances) {
  for (const Case& c : cases)
    for (const bool keep : {false, true}) {
      if (c.shape[c.dim] == 0 && !empty) continue;
      if (keep && c.shape.numel() > 100) continue;
      run({.covers = name + "(Tensor, int64_t, bool)",
           .name = "dim " + std::to_string(c.dim) + (keep ? ", kept" : ""),
           .function = [=](std::span<const Tensor> x) { return function(x[0], c.dim, keep); },
           .reference = [=](std::span<const Numbers> x) { return along(x[0], c.dim, keep, reference); },
           .inputs = {{c.shape, normal}},
           .tolerances = tolerances});
    }
}

}  // namespace

TEST_CASE("sum and mean over a dimension") {
  run_reduction("sum", sum, sum_of, true, {});
  run_reduction("mean", mean, mean_of, false, {});
}

TEST_CASE("logsumexp over a dimension") { run_reduction("logsumexp", logsumexp, logsumexp_of, false, {.bf16 = 3e-2}); }

TEST_CASE("sum and mean of everything") {
  for (const Shape& shape :
       {Shape{}, Shape{0}, Shape{1}, Shape{31}, Shape{3, 11}, Shape{1023}, Shape{1025}, Shape{4097}, Shape{17, 1025}}) {
    const auto reference = [](double scale) {
      return [=](std::span<const Numbers> x) {
        Numbers y{Shape{}};
        y[0] = scale * sum_of(x[0].at);
        return y;
      };
    };
    run({.covers = "sum(Tensor)",
         .function = [](std::span<const Tensor> x) { return sum(x[0]); },
         .reference = reference(1),
         .inputs = {{shape, positive}}});
    if (shape.numel() == 0) continue;
    run({.covers = "mean(Tensor)",
         .function = [](std::span<const Tensor> x) { return mean(x[0]); },
         .reference = reference(1 / static_cast<double>(shape.numel())),
         .inputs = {{shape, positive}}});
  }
}

TEST_CASE("sum: bf16 adds up in f32") {
  // in bf16 256 + 1 is 256: a sum in bf16 would stop there
  CHECK(sum(Tensor::full({1000}, 1, {Dtype::bf16})).item() == 1000);
  CHECK(sum(Tensor::full({1000, 2}, 1, {Dtype::bf16}), 0).to_vector<double>() == std::vector<double>{1000, 1000});
  CHECK(mean(Tensor::full({1000}, 3, {Dtype::bf16})).item() == 3);
}

TEST_CASE("logsumexp: infinities, large numbers, NaN") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const auto of = [&](std::vector<double> values) {
      const auto n = static_cast<int64_t>(values.size());
      const Tensor x = Tensor(Array::from(values, {n}).to(dtype)).set_requires_grad();
      const Tensor y = logsumexp(x, 0);
      y.backward();
      return std::pair(y.item(), x.grad().to_vector<double>());
    };
    CHECK(of({-infinity, -infinity}).first == -infinity);
    CHECK(of({-infinity, -infinity}).second == std::vector<double>{0, 0});
    CHECK(of({-infinity, 2}).first == 2);
    CHECK(of({-infinity, 2}).second == std::vector<double>{0, 1});
    CHECK(of({1e4, -1e4}).first == doctest::Approx(1e4).epsilon(1e-2));
    CHECK(of({infinity, 0}).first == infinity);
    CHECK(std::isnan(of({std::nan(""), 0}).first));
  }
  CHECK(logsumexp(Tensor::zeros({2, 0}), 1).to_vector<double>() == std::vector<double>{-infinity, -infinity});
}
