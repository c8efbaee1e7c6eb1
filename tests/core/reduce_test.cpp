// SPDX-License-Identifier: Apache-2.0
// core/reduce.h
#include "core/reduce.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "core/philox.h"

using namespace moxie;

namespace {

Array random(const Shape& shape, Dtype dtype) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(uniform_at({.seed = 3}, i));
  return Array::from(values, shape).to(dtype);
}

}  // namespace

TEST_CASE("reduce_sum: against a plain loop, in the dtype of statistics") {
  struct Case {
    int64_t outer, n, inner;
  };
  for (const Case& c : {Case{1, 1, 1}, Case{1, 0, 1}, Case{3, 0, 2}, Case{0, 4, 2}, Case{2, 4, 0}, Case{3, 4, 5},
                        Case{1, 4095, 1}, Case{1, 4096, 1}, Case{1, 4097, 1}, Case{2, 127, 3}, Case{2, 128, 3},
                        Case{2, 129, 3}, Case{1, 20000, 2}, Case{1, 128 * 128 + 1, 3}, Case{2, 50000, 1}})
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
      INFO(c.outer, " ", c.n, " ", c.inner);
      const Array x = random({c.outer, c.n, c.inner}, dtype);
      const Array y = reduce_sum(x, c.outer, c.n, c.inner);
      REQUIRE(y.shape() == Shape{c.outer, c.inner});
      CHECK(y.dtype() == statistics_dtype(dtype));
      const std::vector<double> in = x.to_vector<double>(), out = y.to_vector<double>();
      double worst = 0;
      for (int64_t o = 0; o < c.outer; ++o)
        for (int64_t i = 0; i < c.inner; ++i) {
          double total = 0;
          for (int64_t k = 0; k < c.n; ++k) total += in[static_cast<size_t>((o * c.n + k) * c.inner + i)];
          worst = std::max(worst, std::abs(out[static_cast<size_t>(o * c.inner + i)] - total) / std::max(total, 1.0));
        }
      CHECK(worst <= (dtype == Dtype::f64 ? 1e-14 : 2e-6));
    }
}

TEST_CASE("reduce_sum: the same bits for any number of threads") {
  const Array x = random({1, 100000, 3}, Dtype::f32);
  const int before = threads();
  std::vector<std::vector<float>> results;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    results.push_back(reduce_sum(x, 1, 100000, 3).to_vector<float>());
    results.push_back(reduce_sum(x, 1, 300000, 1).to_vector<float>());
  }
  set_threads(before);
  for (size_t i = 2; i < results.size(); ++i) CHECK(results[i] == results[i % 2]);
}

TEST_CASE("reduce_sum: errors") {
  CHECK_THROWS_WITH_AS(reduce_sum(Array::zeros({2}, {Dtype::i32}), 1, 2, 1),
                       "reduce_sum: needs a float dtype (f64, f32 or bf16), got i32", std::invalid_argument);
}
