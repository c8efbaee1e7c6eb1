// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: sums, means and logsumexp.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/ops/reduce.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

double sum_of(const Line& values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}
double mean_of(const Line& values) { return sum_of(values) / static_cast<double>(values.size()); }
double logsumexp_of(const Line& values) {
  double total = 0;
  for (const double value : values) total += std::exp(value);
  return std::log(total);
}

}  // namespace

TEST_CASE("sum and mean over a dimension") {
  run_reduction("sum", sum, sum_of, {.of_nothing = true});
  run_reduction("mean", mean, mean_of);
}

TEST_CASE("logsumexp over a dimension") {
  run_reduction("logsumexp", logsumexp, logsumexp_of, {.tolerances = {.bf16 = 3e-2}});
}

TEST_CASE("sum and mean of everything") {
  run_total("sum(Tensor)", sum, sum_of, {.generate = positive, .of_nothing = true});
  run_total("mean(Tensor)", mean, mean_of, {.generate = positive});
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
    CHECK(std::isnan(of({infinity, 2}).second[0]));  // inf - inf
    CHECK(of({infinity, 2}).second[1] == 0);
    CHECK(std::isnan(of({std::nan(""), 0}).first));
  }
  CHECK(logsumexp(Tensor::zeros({2, 0}), 1).to_vector<double>() == std::vector<double>{-infinity, -infinity});
}
