// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: softmax, log_softmax, cross_entropy, rms_norm and l2_norm.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/gradcheck.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

const std::vector<Shape> shapes = {{1},       {0},       {7},        {0, 4},     {3, 0},
                                   {1, 1},    {5, 1},    {2, 3, 4},  {3, 31},    {33, 33},
                                   {3, 1023}, {2, 1025}, {17, 1025}, {1025, 17}, {1, 20000}};

const double infinity = std::numeric_limits<double>::infinity();

// f(row, result row) for every row.
template <class F> Numbers by_row(const Numbers& x, const F& f) {
  Numbers y(x.shape);
  const int64_t cols = x.shape.cols();
  for (int64_t row = 0; cols > 0 && row < x.shape.rows(); ++row)
    f(&x.at[static_cast<size_t>(row * cols)], &y[row * cols], cols);
  return y;
}

double sum_of_exponentials(const double* x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += std::exp(x[i]);
  return total;
}

}  // namespace

TEST_CASE("softmax and log_softmax") {
  for (const Shape& shape : shapes) {
    run({.covers = "softmax(Tensor)",
         .function = [](std::span<const Tensor> x) { return softmax(x[0]); },
         .reference =
             [](std::span<const Numbers> x) {
               return by_row(x[0], [](const double* in, double* out, int64_t n) {
                 const double total = sum_of_exponentials(in, n);
                 for (int64_t i = 0; i < n; ++i) out[i] = std::exp(in[i]) / total;
               });
             },
         .inputs = {{shape}},
         .tolerances = {.bf16 = 1.6e-2}});  // y of the backward pass is rounded
    run({.covers = "log_softmax(Tensor)",
         .function = [](std::span<const Tensor> x) { return log_softmax(x[0]); },
         .reference =
             [](std::span<const Numbers> x) {
               return by_row(x[0], [](const double* in, double* out, int64_t n) {
                 const double total = n == 1 ? in[0] : std::log(sum_of_exponentials(in, n));
                 for (int64_t i = 0; i < n; ++i) out[i] = in[i] - total;
               });
             },
         .inputs = {{shape}},
         .tolerances = {.bf16 = 3e-2}});
  }
}

TEST_CASE("softmax: large numbers, infinities, NaN") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const auto of = [&](std::vector<double> values) {
      return softmax(Tensor(Array::from(values, {static_cast<int64_t>(values.size())}).to(dtype))).to_vector<double>();
    };
    CHECK(of({1e4, 1e4}) == std::vector<double>{0.5, 0.5});
    CHECK(of({-1e4, -1e4}) == std::vector<double>{0.5, 0.5});
    CHECK(of({-infinity, 3, -infinity}) == std::vector<double>{0, 1, 0});
    for (const double value : of({1, std::nan(""), 2})) CHECK(std::isnan(value));
    const auto logarithms = log_softmax(Tensor(Array::from(std::vector<double>{-infinity, 3}, {2}).to(dtype)));
    CHECK(logarithms.to_vector<double>() == std::vector<double>{-infinity, 0});
  }
}

TEST_CASE("cross_entropy") {
  struct Case {
    Shape shape;
    bool ignore;  // every third target
  };
  for (const Case& c : {Case{{4}, false}, Case{{1, 1}, false}, Case{{0, 5}, false}, Case{{3, 5}, false},
                        Case{{7, 5}, true}, Case{{1, 5}, true}, Case{{2, 3, 4}, true}, Case{{31, 33}, true},
                        Case{{3, 1023}, false}, Case{{17, 1025}, true}, Case{{1025, 17}, true}}) {
    std::vector<int32_t> targets =
        random_indices(c.shape.without(c.shape.rank() - 1), c.shape.cols()).to_vector<int32_t>();
    for (size_t i = 0; c.ignore && i < targets.size(); i += 3) targets[i] = -100;
    const Array array = Array::from(targets, c.shape.without(c.shape.rank() - 1));
    run({.covers = "cross_entropy(Tensor, Array, int64_t)",
         .name = c.ignore ? "some ignored" : "",
         .function = [=](std::span<const Tensor> x) { return cross_entropy(x[0], array); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y{Shape{}};
               const int64_t cols = c.shape.cols();
               double count = 0;
               for (size_t row = 0; row < targets.size(); ++row) {
                 if (targets[row] < 0) continue;
                 const double* in = &x[0].at[row * static_cast<size_t>(cols)];
                 y[0] += std::log(sum_of_exponentials(in, cols)) - in[targets[row]];
                 ++count;
               }
               if (count > 0) y[0] /= count;
               return y;
             },
         .inputs = {{c.shape}},
         .dtype_kept = false});
  }
}

TEST_CASE("cross_entropy: sure predictions, infinities, other ignored indices") {
  // bf16 probabilities near 1 must not cancel: the gradient of the target is p - 1
  const Tensor logits = Tensor(Array::from(std::vector<float>{6, 0}, {1, 2}).to(Dtype::bf16)).set_requires_grad();
  cross_entropy(logits, Array::from(std::vector<int32_t>{0}, {1})).backward();
  const double p = 1 / (1 + std::exp(6.0));
  CHECK(logits.grad().to_vector<double>()[0] == doctest::Approx(-p).epsilon(4e-3));
  CHECK(logits.grad().to_vector<double>()[1] == doctest::Approx(p).epsilon(4e-3));

  const Tensor masked = Tensor::from({0, -std::numeric_limits<float>::infinity(), 0}, {1, 3}).set_requires_grad();
  const Tensor loss = cross_entropy(masked, Array::from(std::vector<int32_t>{2}, {1}));
  CHECK(loss.item() == doctest::Approx(std::log(2.0)));
  loss.backward();
  CHECK(masked.grad().to_vector<float>() == std::vector<float>{0.5f, 0, -0.5f});

  const Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2});
  const Array targets = Array::from(std::vector<int32_t>{1, 7}, {2});
  CHECK(cross_entropy(x, targets, 7).item() == doctest::Approx(std::log(1 + std::exp(-1.0))));
  // an index beyond i32 ignores nothing
  CHECK_THROWS(cross_entropy(x, Array::from(std::vector<int32_t>{1, -1}, {2}), (int64_t{1} << 32) + 5));
  CHECK_THROWS(cross_entropy(x, Array::from(std::vector<int32_t>{1, -1}, {2})));
  CHECK_THROWS(cross_entropy(x, Array::from(std::vector<int32_t>{1, 2}, {2})));
  const Tensor all_ignored = Tensor::from({1, 2}, {1, 2}).set_requires_grad();
  const Tensor zero = cross_entropy(all_ignored, Array::from(std::vector<int32_t>{-100}, {1}));
  CHECK(zero.item() == 0);
  zero.backward();
  CHECK(all_ignored.grad().to_vector<float>() == std::vector<float>{0, 0});
}

TEST_CASE("rms_norm") {
  for (const Shape& shape : shapes)
    for (const double epsilon : {1e-5, 0.5}) {
      if (shape.cols() == 1 && epsilon < 0.1) continue;  // sign(x) but for rounding
      run({.covers = "rms_norm(Tensor, Tensor, double)",
           .name = fmt::format("epsilon = {}", epsilon),
           .function = [=](std::span<const Tensor> x) { return rms_norm(x[0], x[1], epsilon); },
           .reference =
               [=](std::span<const Numbers> x) {
                 return by_row(x[0], [&](const double* in, double* out, int64_t n) {
                   double squares = 0;
                   for (int64_t i = 0; i < n; ++i) squares += in[i] * in[i];
                   for (int64_t i = 0; i < n; ++i)
                     out[i] = in[i] / std::sqrt(squares / static_cast<double>(n) + epsilon) * x[1][i];
                 });
               },
           .inputs = {{shape, away_from_zero}, {.shape = {shape.cols()}, .generate = positive, .statistics = true}}});
    }
  const Tensor zeros = Tensor::zeros({2, 3}).set_requires_grad(), weight = Tensor::full({3}, 1);
  const Tensor y = rms_norm(zeros, weight);
  CHECK(y.to_vector<float>() == std::vector<float>(6, 0));
  y.backward(Array::full({2, 3}, 1));
  for (const float value : zeros.grad().to_vector<float>()) CHECK(std::isfinite(value));
}

TEST_CASE("l2_norm") {
  for (const Shape& shape : shapes)
    for (const double offset : {0.0, 0.25})
      run({.covers = "l2_norm(Tensor, double)",
           .name = fmt::format("offset = {}", offset),
           .function = [=](std::span<const Tensor> x) { return l2_norm(x[0], offset); },
           .reference =
               [=](std::span<const Numbers> x) {
                 const int64_t cols = shape.cols();
                 Numbers y(shape.without(shape.rank() - 1));
                 for (int64_t row = 0; row < y.shape.numel(); ++row) {
                   double squares = 0;
                   for (int64_t i = 0; i < cols; ++i) squares += x[0][row * cols + i] * x[0][row * cols + i];
                   y[row] = std::sqrt(squares) + offset;
                 }
                 return y;
               },
           .inputs = {{shape, away_from_zero}}});
  const Tensor x = Tensor::from({0, 0, 3, 4}, {2, 2}).set_requires_grad();
  const Tensor y = l2_norm(x, 1);
  CHECK(y.to_vector<float>() == std::vector<float>{1, 6});
  y.backward(Array::full({2}, 10));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, 0, 6, 8});  // nothing where |x| = 0
}
