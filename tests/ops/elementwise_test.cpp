// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: affine, cast, activate and dropout.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/kernels/random/mask.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

const std::vector<Shape> shapes = {{}, {0}, {1}, {31}, {33}, {1023}, {1025}, {4097}, {17, 1025}, {3, 1, 5}, {2, 0, 3}};

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

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
                   y.at[i] = mask_bits(key, i) < p * 65536 ? 0 : x[0].at[i] / (1 - p);
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

TEST_CASE("dropout: what p is rounded to also sets the scale, and never drops everything") {
  const RandomKey key{.seed = 5, .stream = 3, .step = 2};
  const Tensor ones = Tensor::full({1 << 20}, 1, {Dtype::f64});
  const auto largest = [&](double p) {
    const std::vector<double> y = dropout(ones, p, key).to_vector<double>();
    return *std::max_element(y.begin(), y.end());
  };
  CHECK(largest(0.3) == 65536.0 / (65536 - 19661));
  CHECK(largest(1.0 / 65536) == 65536.0 / 65535);
  CHECK(dropout(ones, 1e-9, key).to_vector<double>() == ones.to_vector<double>());
  CHECK(largest(0.999999) == 65536.0);
}
