// SPDX-License-Identifier: Apache-2.0
// autograd/ops/activation.h: activations, element by element.
#include "tests/ops/unary.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

// No nearer than an eighth to the places where pieces meet: 0 and 6, -3 and 3.
double around_six(double normal, double uniform) {
  const double x = 3 + 4 * normal;
  return std::abs(x) < 0.125 || std::abs(x - 6) < 0.125 ? 1 + 4 * uniform : x;
}
double around_three(double normal, double uniform) { return around_six(normal, uniform) - 3; }

}  // namespace

TEST_CASE("smooth activations") {
  run_unary("sigmoid", sigmoid, sigmoid_of, normal, {.bf16 = 3e-2});  // y (1 - y) of a rounded y
  run_unary(
      "log_sigmoid", log_sigmoid, [](double x) { return std::log(sigmoid_of(x)); }, normal);
  run_unary(
      "silu", silu, [](double x) { return x * sigmoid_of(x); }, normal);
  run_unary(
      "swish(Tensor, double)", [](const Tensor& x) { return swish(x, 1.75); },
      [](double x) { return x * sigmoid_of(1.75 * x); }, normal);
  run_unary(
      "softplus", softplus, [](double x) { return std::log(1 + std::exp(x)); }, normal);
  run_unary(
      "mish", mish, [](double x) { return x * std::tanh(std::log(1 + std::exp(x))); }, normal);
  run_unary(
      "softsign", softsign, [](double x) { return x / (1 + std::abs(x)); }, away_from_zero);
}

TEST_CASE("gelu") {
  run_unary(
      "gelu(Tensor, GeluForm)", [](const Tensor& x) { return gelu(x); },
      [](double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }, normal);
  run_unary(
      "gelu(Tensor, GeluForm)", [](const Tensor& x) { return gelu(x, GeluForm::tanh); },
      [](double x) {
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
      },
      normal);
}

TEST_CASE("activations made of pieces") {
  run_unary(
      "relu", relu, [](double x) { return x > 0 ? x : 0; }, away_from_zero);
  run_unary(
      "relu6", relu6, [](double x) { return std::min(std::max(x, 0.0), 6.0); }, around_six);
  run_unary(
      "leaky_relu(Tensor, double)", [](const Tensor& x) { return leaky_relu(x, 0.125); },
      [](double x) { return x > 0 ? x : 0.125 * x; }, away_from_zero);
  run_unary(
      "elu(Tensor, double)", [](const Tensor& x) { return elu(x, 1.5); },
      [](double x) { return x > 0 ? x : 1.5 * std::expm1(x); }, away_from_zero);
  run_unary(
      "celu(Tensor, double)", [](const Tensor& x) { return celu(x, 1.5); },
      [](double x) { return x > 0 ? x : 1.5 * std::expm1(x / 1.5); }, away_from_zero);
  run_unary(
      "selu", selu, [](double x) { return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x)); },
      away_from_zero);
  run_unary(
      "hard_sigmoid(Tensor, double, double)", [](const Tensor& x) { return hard_sigmoid(x); },
      [](double x) { return std::min(std::max(x / 6 + 0.5, 0.0), 1.0); }, around_three);
  run_unary(
      "hard_swish", hard_swish, [](double x) { return x * std::min(std::max(x / 6 + 0.5, 0.0), 1.0); }, around_three);
}

TEST_CASE("activations: where pieces meet, far away, and NaN") {
  const double small = std::expm1(-1.0), slope = std::exp(-1.0);
  check_points("relu", relu, {{0, 0, 0}, {-0.0, 0, 0}, {2, 2, 1}, {-2, 0, 0}, {quiet_nan, quiet_nan, 0}});
  check_points("relu6", relu6,
               {{0, 0, 0}, {6, 6, 0}, {3, 3, 1}, {7, 6, 0}, {-1, 0, 0}, {quiet_nan, quiet_nan, 0}, {infinity, 6, 0}});
  check_points("leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.25); },
               {{0, 0, 0.25}, {-2, -0.5, 0.25}, {2, 2, 1}, {quiet_nan, quiet_nan, 0.25}});
  check_points(
      "elu", [](const Tensor& x) { return elu(x, 2); },
      {{0, 0, 2},
       {-1, 2 * small, 2 * slope},
       {3, 3, 1},
       {-infinity, -2, 0},
       {infinity, infinity, 1},
       {quiet_nan, quiet_nan, quiet_nan}},
      1e-6);
  check_points(
      "celu", [](const Tensor& x) { return celu(x, 2); },
      {{0, 0, 1}, {-2, 2 * small, slope}, {3, 3, 1}, {-infinity, -2, 0}, {quiet_nan, quiet_nan, quiet_nan}}, 1e-6);
  check_points("selu", selu,
               {{0, 0, 1.7580993408473768}, {-infinity, -1.7580993408473768, 0}, {quiet_nan, quiet_nan, quiet_nan}},
               1e-6);
  check_points(
      "hard_sigmoid", [](const Tensor& x) { return hard_sigmoid(x, 0.25, 0.5); },
      {{0, 0.5, 0.25}, {-2, 0, 0}, {2, 1, 0}, {-9, 0, 0}, {9, 1, 0}, {quiet_nan, quiet_nan, 0}, {infinity, 1, 0}});
  check_points("hard_swish", hard_swish,
               {{0, 0, 0.5}, {-3, 0, 0}, {3, 3, 1}, {-9, 0, 0}, {quiet_nan, quiet_nan, quiet_nan}}, 1e-6);
  check_points("softsign", softsign, {{0, 0, 1}, {1, 0.5, 0.25}, {-1, -0.5, 0.25}, {quiet_nan, quiet_nan, quiet_nan}});
  check_points("log_sigmoid", log_sigmoid, {{-1000, -1000, 1}, {1000, 0, 0}, {quiet_nan, quiet_nan, quiet_nan}});
  check_points("mish", mish, {{0, 0, 0.6}, {100, 100, 1}, {-1000, 0, 0}, {quiet_nan, quiet_nan, quiet_nan}}, 1e-6);
  check_points("swish", [](const Tensor& x) { return swish(x, 2); }, {{0, 0, 0.5}, {100, 100, 1}, {-1000, 0, 0}});
  CHECK(swish(Tensor::from({-2, 0.5}, {2}), 1).to_vector<float>() ==
        silu(Tensor::from({-2, 0.5}, {2})).to_vector<float>());
  for (const GeluForm form : {GeluForm::exact, GeluForm::tanh})
    check_points("gelu", [=](const Tensor& x) { return gelu(x, form); },
                 {{0, 0, 0.5},
                  {64, 64, 1},
                  {-64, 0, 0},
                  {0x1p70, 0x1p70, 1},
                  {-0x1p70, 0, 0},
                  {quiet_nan, quiet_nan, quiet_nan}});
}
