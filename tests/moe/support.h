// SPDX-License-Identifier: Apache-2.0
// What the tests of the MoE parts share.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "core/parallel.h"
#include "tests/fixture.h"

namespace moxie::testing {

using Numbers = std::vector<double>;

// Standard normal numbers, times `scale`.
inline Array random(const Shape& shape, uint64_t seed, double scale = 1, Dtype dtype = Dtype::f64) {
  Numbers values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = scale * static_cast<double>(normal_at({.seed = seed}, i));
  return Array::from(values, shape).to(dtype).to(current_device());
}

// A leaf with a gradient.
inline Tensor leaf(const Array& value) { return Tensor(value.clone()).set_requires_grad(); }

// A permutation of 0 .. n - 1 for each row, so that a selection among the numbers is stable.
inline Numbers shuffled_ranks(int64_t rows, int64_t cols, uint64_t seed) {
  Numbers values;
  for (int64_t row = 0; row < rows; ++row) {
    Numbers order;
    for (int64_t i = 0; i < cols; ++i) order.push_back(static_cast<double>(i));
    for (int64_t i = cols - 1; i > 0; --i) {
      const uint32_t bits = random_bits({.seed = seed}, static_cast<uint64_t>(row * cols + i));
      std::swap(order[static_cast<size_t>(i)], order[bits % static_cast<uint32_t>(i + 1)]);
    }
    values.insert(values.end(), order.begin(), order.end());
  }
  return values;
}

inline Array integers(const std::vector<int32_t>& values, const Shape& shape) {
  return Array::from(values, shape, current_device());
}

// The largest |a - b|, as a part of the largest |b|, or of `least` where b is smaller (1, where b is 0); infinity where
// shapes differ.
inline double difference(const Array& a, const Array& b, double least = 0) {
  if (!a.defined() || !b.defined() || a.shape() != b.shape()) return HUGE_VAL;
  const Numbers x = a.to_vector<double>(), y = b.to_vector<double>();
  double worst = 0, size = least;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!(std::abs(x[i] - y[i]) <= worst)) worst = std::abs(x[i] - y[i]);
    if (std::isnan(worst)) return HUGE_VAL;
    size = std::max(size, std::abs(y[i]));
  }
  return worst / (size > 0 ? size : 1);
}
inline double difference(const Tensor& a, const Tensor& b) { return difference(a.value(), b.value()); }

inline bool same_bits(const Array& a, const Array& b) {
  if (!a.defined() || !b.defined() || a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Array x = a.to(Device::cpu()), y = b.to(Device::cpu());
  return x.bytes() == 0 || std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0;
}

inline bool all_zero(const Array& a) {
  const Numbers values = a.to_vector<double>();
  return std::all_of(values.begin(), values.end(), [](double value) { return value == 0; });
}

// What f's std::invalid_argument says; empty where it throws none.
template <class F> std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

// f's gradients agree with differences.
inline void check_gradients(const std::function<std::vector<Tensor>(std::span<const Tensor>)>& f,
                            const std::vector<Tensor>& inputs, GradcheckOptions options = {}) {
  if (small_only()) options.directions = 1, options.full_jacobian_up_to = 0;
  const GradcheckResult result = gradcheck(f, inputs, options);
  INFO(result.message);
  CHECK(result.ok);
}
inline void check_gradients(const std::function<Tensor(std::span<const Tensor>)>& f, const std::vector<Tensor>& inputs,
                            GradcheckOptions options = {}) {
  check_gradients([&f](std::span<const Tensor> x) { return std::vector<Tensor>{f(x)}; }, inputs, options);
}

// The gradients of parameters (f64) in the scalar that `loss` computes agree with five-point differences of `value`,
// the same function with its constants held fixed: along one random direction for each parameter, and along the
// gradient of all. `tolerance` is a part of the derivative's usual size |gradient|.
template <class Loss, class Value>
void check_parameter_gradients(const std::vector<nn::NamedParameter>& parameters, Loss&& loss, Value&& value,
                               double tolerance, double step) {
  for (const nn::NamedParameter& named : parameters) named.parameter.clear_grad();
  {
    const Tensor at_start = loss();
    CHECK(at_start.item() == doctest::Approx(value().item()).epsilon(1e-13));
    at_start.backward();
  }
  std::vector<Numbers> values, gradients, directions;
  double all = 0;
  for (size_t p = 0; p < parameters.size(); ++p) {
    const nn::Parameter& parameter = parameters[p].parameter;
    INFO(parameters[p].name);
    REQUIRE(parameter.grad().defined());
    values.push_back(parameter.value().template to_vector<double>());
    gradients.push_back(parameter.grad().template to_vector<double>());
    directions.push_back(random(parameter.shape(), 1000 + p).template to_vector<double>());
    for (double& v : directions[p]) v /= std::sqrt(static_cast<double>(directions[p].size()));
    for (const double g : gradients[p]) all += g * g;
  }
  if (small_only()) return;
  const NoGrad guard;
  const auto move = [&](size_t p, const Numbers& v, double distance) {
    Numbers numbers(v.size());
    for (size_t i = 0; i < v.size(); ++i) numbers[i] = values[p][i] + distance * v[i];
    nn::Parameter parameter = parameters[p].parameter.tie();
    parameter.set_value(Array::from(numbers, parameter.shape()));
  };
  const auto compare = [&](const std::string& what, double analytic, double size,
                           const std::function<void(double)>& go) {
    INFO(what);
    const auto at = [&](double distance) {
      go(distance);
      return value().item();
    };
    const double f1 = at(step) - at(-step), f2 = at(2 * step) - at(-2 * step), here = at(0);
    const double numeric = (8 * f1 - f2) / (12 * step), floor = 1e-15 * std::abs(here) / step;
    INFO("backward ", analytic, ", differences ", numeric);
    CHECK(std::abs(analytic - numeric) <= tolerance * size + floor);
  };
  for (size_t p = 0; p < parameters.size(); ++p) {
    double analytic = 0, squares = 0;
    for (size_t i = 0; i < values[p].size(); ++i) {
      analytic += gradients[p][i] * directions[p][i];
      squares += gradients[p][i] * gradients[p][i];
    }
    compare(parameters[p].name, analytic, std::sqrt(squares / static_cast<double>(values[p].size())),
            [&](double distance) { move(p, directions[p], distance); });
  }
  compare("along the gradient", std::sqrt(all), std::sqrt(all), [&](double distance) {
    for (size_t p = 0; p < parameters.size(); ++p) move(p, gradients[p], distance / std::sqrt(all));
  });
}

template <class Loss> void check_parameter_gradients(const std::vector<nn::NamedParameter>& parameters, Loss&& loss) {
  check_parameter_gradients(parameters, loss, loss, 1e-6, 1e-4);
}

}  // namespace moxie::testing
