// SPDX-License-Identifier: Apache-2.0
// autograd/ops/normalize.h: softmax, log_softmax, rms_norm, layer_norm and l2_norm.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/gradcheck.h"
#include "tests/ops/errors.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

const std::vector<Shape> shapes = {{1},        {0},        {7},        {0, 4},   {3, 0},    {1, 1},
                                   {5, 1},     {2, 3, 4},  {3, 31},    {33, 33}, {3, 1023}, {2, 1025},
                                   {17, 1025}, {1025, 17}, {1, 20000}, {2, 300}, {2, 3000}, {2, 6000}};

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
  // large numbers keep their digits: log(1 / 2) and log(1 / (1 + e))
  CHECK(log_softmax(Tensor::from({1e4, 1e4}, {2})).to_vector<float>()[0] ==
        doctest::Approx(-std::log(2.0)).epsilon(1e-6));
  CHECK(log_softmax(Tensor::from({1e4, 1e4 + 1}, {2})).to_vector<float>()[0] ==
        doctest::Approx(-std::log(1 + std::exp(1.0))).epsilon(1e-6));
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

TEST_CASE("layer_norm") {
  for (const Shape& shape : shapes)
    for (const double epsilon : {1e-5, 0.5})
      for (const bool weighted : {true, false})
        for (const bool shifted : {true, false}) {
          if (shape.cols() <= 3 && epsilon < 0.1) continue;  // two elements: +-1 but for rounding
          if (weighted != shifted && shape.numel() > 100) continue;
          std::vector<Input> inputs{{shape, away_from_zero}};
          if (weighted) inputs.push_back({.shape = {shape.cols()}, .generate = positive, .statistics = true});
          if (shifted) inputs.push_back({.shape = {shape.cols()}, .generate = normal, .statistics = true});
          run({.covers = "layer_norm(Tensor, Tensor, Tensor, double)",
               .name = fmt::format("epsilon = {}{}{}", epsilon, weighted ? ", weight" : "", shifted ? ", bias" : ""),
               .function =
                   [=](std::span<const Tensor> x) {
                     return layer_norm(x[0], weighted ? x[1] : Tensor(), shifted ? x.back() : Tensor(), epsilon);
                   },
               .reference =
                   [=](std::span<const Numbers> x) {
                     return by_row(x[0], [&](const double* in, double* out, int64_t n) {
                       double mean = 0, squares = 0;
                       for (int64_t i = 0; i < n; ++i) mean += in[i] / static_cast<double>(n);
                       for (int64_t i = 0; i < n; ++i) squares += (in[i] - mean) * (in[i] - mean);
                       for (int64_t i = 0; i < n; ++i)
                         out[i] = (in[i] - mean) / std::sqrt(squares / static_cast<double>(n) + epsilon) *
                                      (weighted ? x[1][i] : 1) +
                                  (shifted ? x.back()[i] : 0);
                     });
                   },
               .inputs = inputs,
               .tolerances = {.f64 = 1e-11, .bf16 = 1.2e-2}});
        }
  // a large mean doesn't cancel the variance away
  const Tensor shifted = Tensor::from({10001, 10002, 10003, 10004}, {1, 4}).set_requires_grad();
  const Tensor y = layer_norm(shifted, {}, {}, 0);
  const double unit = 1 / std::sqrt(1.25);
  for (int64_t i = 0; i < 4; ++i)
    CHECK(y.to_vector<double>()[static_cast<size_t>(i)] ==
          doctest::Approx((static_cast<double>(i) - 1.5) * unit).epsilon(1e-6));
  // constant rows: the bias alone, finite gradients
  const Tensor constant = Tensor::full({2, 3}, 5).set_requires_grad(), bias = Tensor::from({1, 2, 3}, {3});
  const Tensor z = layer_norm(constant, {}, bias);
  CHECK(z.to_vector<float>() == std::vector<float>{1, 2, 3, 1, 2, 3});
  z.backward(Array::full({2, 3}, 1));
  for (const float value : constant.grad().to_vector<float>()) CHECK(std::isfinite(value));
}

TEST_CASE("errors: layer_norm") {
  expect({
      {[] { layer_norm(of({})); }, "layer_norm: needs at least one dimension, got a scalar"},
      {[] {
         layer_norm(of({2, 3}), of({2}));
       },
       "layer_norm: weight must be [width], got x [2, 3] and weight [2]"},
      {[] {
         layer_norm(of({2, 3}), of({3}), of({1, 3}));
       },
       "layer_norm: bias must be [width], got x [2, 3] and bias [1, 3]"},
      {[] {
         layer_norm(of({2, 3}, Dtype::bf16), of({3}, Dtype::bf16));
       },
       "layer_norm: for x in bf16 on cpu the weight must be f32 there, got bf16 on cpu"},
      {[] {
         layer_norm(of({2, 3}), {}, of({3}, Dtype::f64));
       },
       "layer_norm: for x in f32 on cpu the bias must be f32 there, got f64 on cpu"},
      {[] {
         layer_norm(of({2, 3}), {}, {}, -1);
       },
       "layer_norm: epsilon must not be negative, got -1"},
      {[] {
         layer_norm(of({2, 3}, Dtype::i32));
       },
       "layer_norm: needs a float dtype (f64, f32 or bf16), got i32"},
  });
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
  // nor where it is too small to be more
  const Tensor tiny = Tensor::from({1e-30f, -1e-30f}, {1, 2}).set_requires_grad();
  CHECK(l2_norm(tiny, 0).item() == 0);
  l2_norm(tiny, 0).backward(Array::full({1}, 10));
  CHECK(tiny.grad().to_vector<float>() == std::vector<float>{0, 0});
}
