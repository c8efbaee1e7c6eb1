// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: elementwise ops of one operand, activations, cast and dropout.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

using Function = Tensor (*)(const Tensor&);
using Scalar = double (*)(double);

const std::vector<Shape> shapes = {{}, {0}, {1}, {31}, {33}, {1023}, {1025}, {4097}, {17, 1025}, {3, 1, 5}, {2, 0, 3}};

void run_unary(const char* name, Function function, Scalar reference, Generator generate, Tolerances tolerances = {}) {
  for (const Shape& shape : shapes)
    run({.covers = std::string(name) + "(Tensor)",
         .function = [=](std::span<const Tensor> x) { return function(x[0]); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y(x[0].shape);
               for (size_t i = 0; i < y.at.size(); ++i) y.at[i] = reference(x[0].at[i]);
               return y;
             },
         .inputs = {{shape, generate}},
         .tolerances = tolerances});
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

TEST_CASE("elementwise ops of one operand") {
  run_unary(
      "neg", neg, [](double x) { return -x; }, normal);
  run_unary(
      "operator-", [](const Tensor& x) { return -x; }, [](double x) { return -x; }, normal);
  run_unary(
      "exp", moxie::exp, [](double x) { return std::exp(x); }, normal);
  run_unary(
      "log", moxie::log, [](double x) { return std::log(x); }, positive);
  run_unary(
      "sqrt", moxie::sqrt, [](double x) { return std::sqrt(x); }, positive);
  run_unary("tanh", moxie::tanh, [](double x) { return std::tanh(x); }, normal, {.bf16 = 3e-2});
  run_unary(
      "relu", relu, [](double x) { return x > 0 ? x : 0; }, away_from_zero);
  run_unary(
      "gelu", gelu, [](double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }, normal);
  run_unary(
      "silu", silu, [](double x) { return x * sigmoid_of(x); }, normal);
  run_unary("sigmoid", sigmoid, sigmoid_of, normal, {.bf16 = 3e-2});  // y (1 - y) of a rounded y
  run_unary(
      "softplus", softplus, [](double x) { return std::log(1 + std::exp(x)); }, normal);
}

TEST_CASE("affine and its operators") {
  const auto affine_row = [](const char* declaration, double scale, double shift, auto function) {
    for (const Shape& shape : shapes)
      run({.covers = declaration,
           .function = [=](std::span<const Tensor> x) { return function(x[0]); },
           .reference =
               [=](std::span<const Numbers> x) {
                 Numbers y(x[0].shape);
                 for (size_t i = 0; i < y.at.size(); ++i) y.at[i] = scale * x[0].at[i] + shift;
                 return y;
               },
           .inputs = {{shape, normal}}});
  };
  affine_row("affine(Tensor, double, double)", -1.5, 0.75, [](const Tensor& x) { return affine(x, -1.5, 0.75); });
  affine_row("operator*(double, Tensor)", 3, 0, [](const Tensor& x) { return 3.0 * x; });
  affine_row("operator*(Tensor, double)", 3, 0, [](const Tensor& x) { return x * 3.0; });
  affine_row("operator/(Tensor, double)", 0.25, 0, [](const Tensor& x) { return x / 4.0; });
  affine_row("operator+(Tensor, double)", 1, 0.5, [](const Tensor& x) { return x + 0.5; });
  affine_row("operator+(double, Tensor)", 1, 0.5, [](const Tensor& x) { return 0.5 + x; });
  affine_row("operator-(Tensor, double)", 1, -0.5, [](const Tensor& x) { return x - 0.5; });
  affine_row("operator-(double, Tensor)", -1, 0.5, [](const Tensor& x) { return 0.5 - x; });
}

TEST_CASE("relu: no gradient at 0, NaN stays") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor x = Tensor::from(std::vector<double>{0.0, -0.0, 2, -2, nan}, {5}).set_requires_grad();
  const Tensor y = relu(x);
  const auto values = y.to_vector<double>();
  CHECK(values[2] == 2);
  CHECK(values[3] == 0);
  CHECK(std::isnan(values[4]));
  y.backward(Array::full({5}, 1, y.options()));
  const auto grad = x.grad().to_vector<double>();
  CHECK(grad[0] == 0);
  CHECK(grad[1] == 0);
  CHECK(grad[2] == 1);
  CHECK(grad[3] == 0);
}

TEST_CASE("cast: converts the numbers, and the gradient back") {
  covers("cast(Tensor, Dtype)");
  for (const Dtype from : {Dtype::f64, Dtype::f32, Dtype::bf16})
    for (const Dtype into : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
      const Tensor x = Tensor(Array::from(std::vector<double>{1.00390625, -3, 0.1}, {3}).to(from)).set_requires_grad();
      const Tensor y = cast(x, into);
      CHECK(y.dtype() == into);
      CHECK(y.to_vector<double>() == x.value().to(into).to_vector<double>());
      const Array dy = Array::from(std::vector<double>{0.5, 0.25, -1.0009765625}, {3}).to(into);
      y.backward(dy);
      CHECK(x.grad().dtype() == from);
      CHECK(x.grad().to_vector<double>() == dy.to(from).to_vector<double>());
    }
  const Tensor x = Tensor::zeros({2});
  CHECK(cast(x, Dtype::f32).value().shares_storage_with(x.value()));
}

TEST_CASE("activate") {
  const auto swiglu = [](std::span<const Numbers> x) {
    const int64_t hidden = x[0].shape.cols() / 2;
    Numbers y(x[0].shape.with(-1, hidden));
    for (int64_t row = 0; row < x[0].shape.rows(); ++row)
      for (int64_t i = 0; i < hidden; ++i) {
        const double gate = x[0][row * 2 * hidden + i], up = x[0][row * 2 * hidden + hidden + i];
        y[row * hidden + i] = gate * sigmoid_of(gate) * up;
      }
    return y;
  };
  for (const Shape& shape : {Shape{2}, Shape{0}, Shape{0, 6}, Shape{3, 0}, Shape{1, 2}, Shape{2, 3, 4}, Shape{5, 62},
                             Shape{5, 32}, Shape{2, 1024}, Shape{3, 66}, Shape{2, 2050}, Shape{40, 1030}})
    run({.covers = "activate(Tensor, Activation)",
         .name = "swiglu",
         .function = [](std::span<const Tensor> x) { return activate(x[0], Activation::swiglu); },
         .reference = swiglu,
         .inputs = {{shape, normal}}});
  const Tensor x = Tensor::from({-1, 0.5, 2}, {3});
  CHECK(activate(x, Activation::gelu).to_vector<float>() == gelu(x).to_vector<float>());
  CHECK(activate(x, Activation::relu).to_vector<float>() == relu(x).to_vector<float>());
  for (const Activation activation : {Activation::swiglu, Activation::gelu, Activation::relu})
    CHECK(activation_from_name(name_of(activation)) == activation);
  CHECK(projection_width(Activation::swiglu, 6) == 12);
  CHECK(projection_width(Activation::gelu, 6) == 6);
  CHECK(projection_width(Activation::relu, 6) == 6);
}

TEST_CASE("dropout") {
  const RandomKey key{.seed = 5, .stream = 3, .step = 2};
  for (const Shape& shape : shapes)
    for (const double p : {0.25, 0.75})
      run({.covers = "dropout(Tensor, double, RandomKey)",
           .name = "p = " + std::to_string(p),
           .function = [=](std::span<const Tensor> x) { return dropout(x[0], p, key); },
           .reference =
               [=](std::span<const Numbers> x) {
                 Numbers y(x[0].shape);
                 for (size_t i = 0; i < y.at.size(); ++i)
                   y.at[i] =
                       ((random_bits(key, i / 2) >> (16 * (i % 2))) & 0xFFFF) < p * 65536 ? 0 : x[0].at[i] / (1 - p);
                 return y;
               },
           .inputs = {{shape, away_from_zero}}});
  const Tensor ones = Tensor::full({100000}, 1);
  CHECK(dropout(ones, 0, key).value().shares_storage_with(ones.value()));
  const auto dropped = dropout(ones, 0.3, key).to_vector<float>();
  const auto zeros = std::count(dropped.begin(), dropped.end(), 0.0f);
  CHECK(zeros > 29500);
  CHECK(zeros < 30500);
  CHECK(dropout(ones, 0.3, key).to_vector<float>() == dropped);
  CHECK(dropout(ones, 0.3, {.seed = 5, .stream = 3, .step = 3}).to_vector<float>() != dropped);
}
