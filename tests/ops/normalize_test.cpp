// SPDX-License-Identifier: Apache-2.0
// autograd/ops/normalize.h: softmax, log_softmax, rms_norm, layer_norm and l2_norm.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/gradcheck.h"
#include "core/philox.h"
#include "nn/init.h"
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

TEST_CASE("add_rms_norm") {
  for (const Shape& shape : shapes)
    for (const double epsilon : {1e-5, 0.5}) {
      if (shape.cols() == 1 && epsilon < 0.1) continue;  // sign(x) but for rounding
      // both results behind each other, in the last dimension
      run({.covers = "add_rms_norm(Tensor, Tensor, Tensor, double)",
           .name = fmt::format("epsilon = {}", epsilon),
           .function =
               [=](std::span<const Tensor> x) {
                 const auto [sum, y] = add_rms_norm(x[0], x[1], x[2], epsilon);
                 return concat({sum, y}, -1);
               },
           .reference =
               [=](std::span<const Numbers> x) {
                 const int64_t cols = shape.cols();
                 Numbers result(shape.with(shape.rank() - 1, 2 * cols));
                 for (int64_t row = 0; cols > 0 && row < shape.rows(); ++row) {
                   const auto sum = [&](int64_t i) { return x[0][row * cols + i] + x[1][row * cols + i]; };
                   double squares = 0;
                   for (int64_t i = 0; i < cols; ++i) squares += sum(i) * sum(i);
                   const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + epsilon);
                   for (int64_t i = 0; i < cols; ++i) {
                     result[row * 2 * cols + i] = sum(i);
                     result[row * 2 * cols + cols + i] = sum(i) * scale * x[2][i];
                   }
                 }
                 return result;
               },
           .inputs = {{shape, away_from_zero},
                      {shape, positive},
                      {.shape = {shape.cols()}, .generate = positive, .statistics = true}},
           .tolerances = {.bf16 = 1.6e-2}});  // the sum is rounded, and then its norm
    }
  // the sum is rounded before it is normalised: y is the norm of what is returned beside it
  const Tensor x = Tensor(Array::from(std::vector<float>{1, 256, -3}, {1, 3}).to(Dtype::bf16)),
               branch = Tensor(Array::from(std::vector<float>{0.001f, 1, 1}, {1, 3}).to(Dtype::bf16));
  const Tensor weight = Tensor::full({3}, 2);
  const auto [sum, y] = add_rms_norm(x, branch, weight);
  CHECK(sum.to_vector<float>() == std::vector<float>{1, 256, -2});
  CHECK(y.to_vector<float>() == rms_norm(sum, weight).to_vector<float>());
}

TEST_CASE("add_rms_norm: either result alone, and the weight alone, has the gradient of add and rms_norm") {
  const auto random = [](uint64_t seed, const Shape& shape) {
    std::vector<double> values(static_cast<size_t>(shape.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(normal_at({.seed = seed}, i));
    return Tensor(Array::from(values, shape));
  };
  for (const bool of_sum : {true, false})
    for (const bool frozen : {true, false}) {
      CAPTURE(of_sum);
      CAPTURE(frozen);
      const auto gradients = [&](bool fused) {
        std::vector<Tensor> leaves{random(1, {300, 5}), random(2, {300, 5}), random(3, {5})};
        for (Tensor& leaf : leaves) leaf.set_requires_grad();
        if (frozen) leaves[2] = leaves[2].detach();
        Tensor sum, y;
        if (fused) {
          const NormedSum made = add_rms_norm(leaves[0], leaves[1], leaves[2]);
          sum = made.sum, y = made.y;
        } else {
          sum = leaves[0] + leaves[1], y = rms_norm(sum, leaves[2]);
        }
        (of_sum ? sum : y).backward(random(4, {300, 5}).value());
        std::vector<double> all;
        for (const Tensor& leaf : leaves)
          if (leaf.requires_grad() && leaf.grad().defined())
            for (const double value : leaf.grad().to_vector<double>()) all.push_back(value);
        return all;
      };
      const std::vector<double> fused = gradients(true), apart = gradients(false);
      REQUIRE(fused.size() >= apart.size());
      for (size_t i = 0; i < fused.size(); ++i)
        CHECK(fused[i] == doctest::Approx(i < apart.size() ? apart[i] : 0).epsilon(1e-12).scale(1));
    }
}

TEST_CASE("add_rms_norm in place: the same bits, and only where nobody else sees the numbers") {
  const Shape shape{300, 5};
  const auto numbers = [](const Array& x) { return x.to_vector<float>(); };
  const auto results = [&](bool hand_over, bool keep_cotangent) {
    nn::Initializer init(1);
    Tensor x(init.normal(shape, 1)), leaf(init.normal(shape, 1)), weight(init.normal({5}, 1));
    for (Tensor* tensor : {&x, &leaf, &weight}) tensor->set_requires_grad(true);
    Tensor branch = neg(leaf);
    const std::byte* memory = branch.value().raw();
    const std::vector<float> before = numbers(branch.value());
    const auto [sum, y] = hand_over ? add_rms_norm(x, std::move(branch), weight) : add_rms_norm(x, branch, weight);
    CHECK((sum.value().raw() == memory) == hand_over);
    if (!hand_over) CHECK(numbers(branch.value()) == before);
    const Array cotangent = init.normal(shape, 1);
    const std::vector<float> kept = numbers(cotangent);
    const Tensor used = keep_cotangent ? sum + y : neg(neg(sum)) + y;
    used.backward(cotangent);
    CHECK(numbers(cotangent) == kept);
    return std::vector<std::vector<float>>{numbers(sum.value()), numbers(y.value()), numbers(x.grad()),
                                           numbers(leaf.grad()), numbers(weight.grad())};
  };
  const auto apart = results(false, true);
  CHECK(results(true, true) == apart);
  CHECK(results(true, false) == apart);
  CHECK(results(false, false) == apart);
}

TEST_CASE("errors: add_rms_norm") {
  expect({
      {[] {
         add_rms_norm(of({2, 3}), of({3}), of({3}));
       },
       "add_rms_norm: x and branch must have the same shape, got [2, 3] and [3]"},
      {[] {
         add_rms_norm(of({2, 3}), of({2, 3}, Dtype::bf16), of({3}));
       },
       "add_rms_norm: x is f32 and branch is bf16; convert one with cast"},
      {[] {
         add_rms_norm(of({2, 3}), of({2, 3}), of({2}));
       },
       "add_rms_norm: weight must be [width], got x [2, 3] and weight [2]"},
      {[] {
         add_rms_norm(of({2, 3}), of({2, 3}), of({3}), -1);
       },
       "add_rms_norm: epsilon must not be negative, got -1"},
  });
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
