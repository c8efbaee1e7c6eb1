// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: elementwise ops of two operands and their broadcasting.
#include <doctest/doctest.h>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

using Function = Tensor (*)(const Tensor&, const Tensor&);
using Scalar = double (*)(double, double);

struct Pair {
  Shape x, y, z;
};

const std::vector<Pair> pairs = {
    // one shape
    {{}, {}, {}},
    {{0}, {0}, {0}},
    {{1}, {1}, {1}},
    {{31}, {31}, {31}},
    {{33}, {33}, {33}},
    {{1023}, {1023}, {1023}},
    {{1025}, {1025}, {1025}},
    {{17, 1025}, {17, 1025}, {17, 1025}},
    // a scalar, or a single element
    {{}, {3}, {3}},
    {{2, 3}, {}, {2, 3}},
    {{1}, {2, 3}, {2, 3}},
    {{1, 1, 1}, {1}, {1, 1, 1}},
    {{}, {1, 1}, {1, 1}},
    {{1}, {0}, {0}},
    {{2, 0}, {1, 1}, {2, 0}},
    // rows, columns, both
    {{4, 5}, {5}, {4, 5}},
    {{4, 5}, {1, 5}, {4, 5}},
    {{4, 5}, {4, 1}, {4, 5}},
    {{4, 1}, {1, 5}, {4, 5}},
    {{5}, {4, 1}, {4, 5}},
    {{2, 3, 4}, {3, 1}, {2, 3, 4}},
    {{2, 3, 4}, {2, 1, 4}, {2, 3, 4}},
    {{2, 1, 4}, {1, 3, 1}, {2, 3, 4}},
    {{2, 1, 3, 1, 2}, {2, 1, 2, 1}, {2, 2, 3, 2, 2}},
    {{0, 4}, {1, 4}, {0, 4}},
    {{3, 0, 2}, {3, 1, 1}, {3, 0, 2}},
    // sizes around 32 and 1024, and beyond the parallel threshold
    {{33, 31}, {31}, {33, 31}},
    {{31, 33}, {31, 1}, {31, 33}},
    {{1025}, {1025}, {1025}},
    {{17, 1025}, {1025}, {17, 1025}},
    {{17, 1025}, {17, 1}, {17, 1025}},
    {{1025, 17}, {17}, {1025, 17}},
    {{1025, 1}, {17}, {1025, 17}},
    {{5000}, {4, 1}, {4, 5000}},
    {{20000}, {}, {20000}},
};

void run_binary(const std::string& name, Function function, Scalar reference, Generator of_y) {
  for (const Pair& pair : pairs) {
    if (name.starts_with("operator") && pair.z.numel() > 1100) continue;  // the same function by another name
    run({.covers = name + "(Tensor, Tensor)",
         .function = [=](std::span<const Tensor> x) { return function(x[0], x[1]); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers z(pair.z);
               // Where an element of z comes from: its index in each dimension that the operand doesn't repeat.
               const auto place = [&](const Shape& shape, int64_t i) {
                 int64_t at = 0, step = 1;
                 for (int64_t back = 1; back <= pair.z.rank(); ++back) {
                   const int64_t index = i % pair.z[-back];
                   i /= pair.z[-back];
                   if (back > shape.rank()) continue;
                   if (shape[-back] != 1) at += index * step;
                   step *= shape[-back];
                 }
                 return at;
               };
               for (int64_t i = 0; i < z.shape.numel(); ++i)
                 z[i] = reference(x[0][place(x[0].shape, i)], x[1][place(x[1].shape, i)]);
               return z;
             },
         .inputs = {{pair.x, normal}, {pair.y, of_y}}});
  }
}

}  // namespace

TEST_CASE("add and sub") {
  run_binary(
      "add", add, [](double x, double y) { return x + y; }, normal);
  run_binary(
      "operator+", [](const Tensor& x, const Tensor& y) { return x + y; }, [](double x, double y) { return x + y; },
      normal);
  run_binary(
      "sub", sub, [](double x, double y) { return x - y; }, normal);
  run_binary(
      "operator-", [](const Tensor& x, const Tensor& y) { return x - y; }, [](double x, double y) { return x - y; },
      normal);
}

TEST_CASE("mul and div") {
  run_binary(
      "mul", mul, [](double x, double y) { return x * y; }, normal);
  run_binary(
      "operator*", [](const Tensor& x, const Tensor& y) { return x * y; }, [](double x, double y) { return x * y; },
      normal);
  run_binary(
      "div", moxie::div, [](double x, double y) { return x / y; }, positive);
  run_binary(
      "operator/", [](const Tensor& x, const Tensor& y) { return x / y; }, [](double x, double y) { return x / y; },
      positive);
}

TEST_CASE("binary ops: NaN and infinities keep their meaning") {
  const Tensor x = Tensor::from({1, -1, 0}, {3}), zero = Tensor::zeros({3});
  const auto quotient = (x / zero).to_vector<double>();
  CHECK(quotient[0] == std::numeric_limits<double>::infinity());
  CHECK(quotient[1] == -std::numeric_limits<double>::infinity());
  CHECK(quotient[2] != quotient[2]);
}
