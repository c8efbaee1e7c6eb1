// SPDX-License-Identifier: Apache-2.0
// The messages of binary ops, comparisons, logic, choices and one_hot.
#include <cmath>

#include "tests/ops/errors.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

Array mask(const Shape& shape) { return Array::zeros(shape, {Dtype::u8}); }

}  // namespace

TEST_CASE("errors: maximum, minimum and pow") {
  expect({
      {[] {
         maximum(of({2, 3}), of({2}));
       },
       "maximum: shapes don't broadcast, x [2, 3] and y [2] (dimension -1: 3 and 2)"},
      {[] { minimum(of({2}), of({2}, Dtype::f64)); }, "minimum: x is f32 and y is f64; convert one with cast"},
      {[] { moxie::pow(of({2}, Dtype::i32), of({2}, Dtype::i32)); },
       "pow: needs a float dtype (f64, f32 or bf16), got i32"},
  });
}

TEST_CASE("errors: ops of one operand") {
  expect({
      {[] { moxie::sin(of({2}, Dtype::i32)); }, "sin: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { moxie::floor(of({2}, Dtype::u8)); }, "floor: needs a float dtype (f64, f32 or bf16), got u8"},
      {[] { clamp(of({2}), 1, -1); }, "clamp: low must not be above high, got low = 1, high = -1"},
      {[] { clamp(of({2}), std::nan(""), 1); }, "clamp: low must not be above high, got low = nan, high = 1"},
      {[] { celu(of({2}), 0); }, "celu: alpha must be positive, got 0"},
      {[] { celu(of({2}), -1); }, "celu: alpha must be positive, got -1"},
  });
}

TEST_CASE("errors: comparisons and logic") {
  expect({
      {[] {
         equal(of({2, 3}), of({2}));
       },
       "equal: shapes don't broadcast, x [2, 3] and y [2] (dimension -1: 3 and 2)"},
      {[] { less(of({2}), of({2}, Dtype::i32)); }, "less: x is f32 and y is i32; convert one with cast"},
      {[] { logical_and(mask({2}), of({2}).value()); }, "logical_and: needs u8 arrays, got u8 and f32"},
      {[] { logical_or(mask({2}), mask({3})); },
       "logical_or: shapes don't broadcast, x [2] and y [3] (dimension -1: 2 and 3)"},
      {[] { logical_not(of({2}, Dtype::i32).value()); }, "logical_not: needs a u8 array, got i32"},
  });
}

TEST_CASE("errors: where and masked_fill") {
  expect({
      {[] { where(of({2}).value(), of({2}), of({2})); },
       "where: condition must be u8, got f32; comparisons such as less() make one"},
      {[] { where(mask({2}), of({2}), of({2}, Dtype::f64)); }, "where: x is f32 and y is f64; convert one with cast"},
      {[] { where(mask({2}), of({2}), of({3})); },
       "where: shapes don't broadcast, x [2] and y [3] (dimension -1: 2 and 3)"},
      {[] {
         where(mask({3}), of({2}), of({4, 1}));
       },
       "where: shapes don't broadcast, condition [3] and values [4, 2] (dimension -1: 3 and 2)"},
      {[] { masked_fill(of({2}), of({2}).value(), 0); },
       "masked_fill: mask must be u8, got f32; comparisons such as less() make one"},
      {[] { masked_fill(of({2}, Dtype::i32), mask({2}), 0); },
       "masked_fill: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { masked_fill(of({2}), mask({3}), 0); },
       "masked_fill: shapes don't broadcast, x [2] and mask [3] (dimension -1: 2 and 3)"},
      {[] {
         masked_fill(of({2}), mask({4, 2}), 0);
       },
       "masked_fill: the mask must broadcast to x, got x [2] and mask [4, 2]"},
  });
}

TEST_CASE("errors: one_hot") {
  expect({
      {[] {
         one_hot(indices({0, 3}), 3);
       },
       "one_hot: index 3 at position 1 is out of range [0, 3)"},
      {[] { one_hot(indices({-1}), 3); }, "one_hot: index -1 at position 0 is out of range [0, 3)"},
      {[] { one_hot(of({2}).value(), 3); }, "one_hot: indices must be i32, got f32"},
      {[] { one_hot(Array::zeros({0}, {Dtype::i32}), -1); }, "one_hot: classes must not be negative, got -1"},
  });
}

TEST_CASE("errors: extremes, products and moments") {
  const Tensor whole = of({2}, Dtype::i32);
  expect({
      {[] {
         moxie::max(of({2, 0}), 1);
       },
       "max: there is nothing to choose from in shape [2, 0]"},
      {[] { moxie::min(of({0})); }, "min: there is nothing to choose from in shape [0]"},
      {[] {
         argmax(of({0, 3}), 0);
       },
       "argmax: there is nothing to choose from in shape [0, 3]"},
      {[] {
         argmin(of({2, 3}), 2);
       },
       "argmin: dimension 2 is out of range for shape [2, 3]"},
      {[=] { argmax(whole); }, "argmax: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { prod(of({}), 0); }, "prod: dimension 0 is out of range for shape []"},
      {[=] { prod(whole); }, "prod: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] {
         var(of({2, 1}), 1);
       },
       "var: needs more than correction = 1 elements, 1 of shape [2, 1] are there"},
      {[] { var(of({0}), {.correction = 0}); },
       "var: needs more than correction = 0 elements, 0 of shape [0] are there"},
      {[] { standard_deviation(of({})); },
       "standard_deviation: needs more than correction = 1 elements, 1 of shape [] are there"},
      {[=] { var(whole, 0); }, "var: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { cumsum(of({2}), 1); }, "cumsum: dimension 1 is out of range for shape [2]"},
      {[=] { cumsum(whole, 0); }, "cumsum: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { sort(of({})); }, "sort: needs at least one dimension, got a scalar"},
      {[=] { sort(whole); }, "sort: needs a float dtype (f64, f32 or bf16), got i32"},
  });
}
