// SPDX-License-Identifier: Apache-2.0
// Rows of ops of one operand, element by element, and a look at single points.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/ops/harness.h"

namespace moxie::testing {

inline constexpr double quiet_nan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double infinity = std::numeric_limits<double>::infinity();

using UnaryFunction = std::function<Tensor(const Tensor&)>;

// `declaration` is a name alone where the op takes nothing but a Tensor.
inline void run_unary(const std::string& declaration, UnaryFunction function, double (*reference)(double),
                      Generator generate, Tolerances tolerances = {}) {
  const bool named = declaration.find('(') == std::string::npos;
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{33}, Shape{1023}, Shape{4097}, Shape{3, 1, 5}, Shape{2, 0, 3}})
    run({.covers = named ? declaration + "(Tensor)" : declaration,
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

// A point, the value there and the gradient.
struct Point {
  double x, y, dx;
};

// Values and gradients at single points, in every float dtype; NaN is equal to NaN here.
inline void check_points(const char* name, const UnaryFunction& function, const std::vector<Point>& points,
                         double tolerance = 0) {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    std::vector<double> at;
    for (const Point& point : points) at.push_back(point.x);
    const auto n = static_cast<int64_t>(at.size());
    const Tensor x = Tensor(Array::from(at, {n}).to(dtype)).set_requires_grad();
    const Tensor y = function(x);
    y.backward(Array::full({n}, 1, y.options()));
    const std::vector<double> values = y.to_vector<double>(), gradients = x.grad().to_vector<double>();
    const double bound = tolerance + (tolerance > 0 && dtype == Dtype::bf16 ? 8e-3 : 0);
    const auto near = [=](double got, double wanted) {
      if (std::isnan(wanted)) return std::isnan(got);
      return got == wanted || std::abs(got - wanted) <= bound * std::abs(wanted);
    };
    for (size_t i = 0; i < points.size(); ++i) {
      INFO(name, " in ", name_of(dtype), " at ", at[i], ": ", values[i], ", gradient ", gradients[i]);
      CHECK(near(values[i], points[i].y));
      CHECK(near(gradients[i], points[i].dx));
    }
  }
}

}  // namespace moxie::testing
