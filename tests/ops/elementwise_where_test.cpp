// SPDX-License-Identifier: Apache-2.0
// autograd/ops/elementwise.h: where and masked_fill.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/ops/broadcast.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

constexpr Tolerances exact{.f64 = 0, .f32 = 0, .bf16 = 0};
constexpr Tolerances summed{.f64 = 1e-12, .f32 = 4e-6, .bf16 = 8e-3};

// About as many 0 as not; what isn't 0 is 1, 2 or 3.
Array random_mask(const Shape& shape, uint64_t seed = 3) {
  const std::vector<int32_t> draws = random_indices(shape, 8, seed).to_vector<int32_t>();
  std::vector<uint8_t> values;
  for (const int32_t draw : draws) values.push_back(draw < 4 ? uint8_t{0} : static_cast<uint8_t>(1 + draw % 3));
  return Array::from(values, shape);
}

}  // namespace

TEST_CASE("where") {
  struct Case {
    Shape condition, x, y, z;
  };
  const std::vector<Case> cases = {
      {{}, {}, {}, {}},
      {{0}, {0}, {0}, {0}},
      {{1}, {1}, {1}, {1}},
      {{33}, {33}, {33}, {33}},
      {{1023}, {1023}, {1023}, {1023}},
      {{17, 1025}, {17, 1025}, {17, 1025}, {17, 1025}},
      {{3}, {}, {}, {3}},
      {{}, {2, 3}, {2, 3}, {2, 3}},
      {{2, 3}, {2, 3}, {}, {2, 3}},
      {{2, 3}, {}, {2, 3}, {2, 3}},
      {{4, 1}, {5}, {4, 5}, {4, 5}},
      {{5}, {4, 1}, {1, 5}, {4, 5}},
      {{4, 1}, {4, 5}, {4, 1}, {4, 5}},
      {{2, 1, 4}, {3, 1}, {2, 1, 1}, {2, 3, 4}},
      {{2, 3, 4}, {1, 3, 1}, {2, 1, 4}, {2, 3, 4}},
      {{0, 4}, {4}, {1, 1}, {0, 4}},
      {{33, 31}, {31}, {33, 1}, {33, 31}},
      {{1025, 17}, {17}, {1025, 17}, {1025, 17}},
      {{17, 1}, {17, 1025}, {1025}, {17, 1025}},
      {{2, 1}, {5000}, {2, 5000}, {2, 5000}},
  };
  for (const Case& c : cases) {
    const Array condition = random_mask(c.condition);
    const std::vector<double> holds = condition.to_vector<double>();
    run({.covers = "where(Array, Tensor, Tensor)",
         .name = fmt::format("condition {}", c.condition),
         .function = [=](std::span<const Tensor> x) { return where(condition.to(x[0].device()), x[0], x[1]); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers z(c.z);
               for (int64_t i = 0; i < c.z.numel(); ++i)
                 z[i] = holds[static_cast<size_t>(broadcast_place(c.condition, c.z, i))] != 0
                            ? x[0][broadcast_place(c.x, c.z, i)]
                            : x[1][broadcast_place(c.y, c.z, i)];
               return z;
             },
         .inputs = {{c.x}, {c.y}},
         .tolerances = c.x == c.z && c.y == c.z ? exact : summed});
  }
}

TEST_CASE("where: NaN on the side that isn't taken reaches neither values nor gradients") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor x = Tensor::from(std::vector<double>{1, nan}, {2}).set_requires_grad();
  const Tensor y = Tensor::from(std::vector<double>{nan, 4}, {2}).set_requires_grad();
  const Tensor z = where(Array::from(std::vector<uint8_t>{1, 0}, {2}), x, y);
  CHECK(z.to_vector<double>() == std::vector<double>{1, 4});
  z.backward(Array::from(std::vector<double>{5, 6}, {2}));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{5, 0});
  CHECK(y.grad().to_vector<double>() == std::vector<double>{0, 6});
}

TEST_CASE("where: takes every dtype") {
  const Array condition = Array::from(std::vector<uint8_t>{0, 1, 255}, {3});
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::u8}) {
    const Tensor x(Array::from(std::vector<double>{1, 2, 3}, {3}).to(dtype)), y = Tensor::full({}, 7, {dtype});
    const Tensor z = where(condition, x, y);
    CHECK(z.dtype() == dtype);
    CHECK(z.to_vector<double>() == std::vector<double>{7, 2, 3});
  }
}

TEST_CASE("masked_fill") {
  struct Case {
    Shape x, mask;
  };
  for (const Case& c :
       {Case{{}, {}}, Case{{0}, {0}}, Case{{5}, {}}, Case{{5}, {1}}, Case{{1, 3}, {3}}, Case{{2, 3}, {3}},
        Case{{2, 3}, {2, 1}}, Case{{2, 3}, {1, 1}}, Case{{2, 3, 4}, {2, 1, 4}}, Case{{2, 3, 4}, {3, 1}},
        Case{{0, 4}, {1, 4}}, Case{{33, 31}, {31}}, Case{{31, 33}, {31, 1}}, Case{{17, 1025}, {17, 1025}},
        Case{{1025, 17}, {17}}, Case{{3, 2, 5000}, {2, 1}}, Case{{20000}, {20000}}}) {
    const Array mask = random_mask(c.mask);
    const std::vector<double> filled = mask.to_vector<double>();
    run({.covers = "masked_fill(Tensor, Array, double)",
         .name = fmt::format("mask {}", c.mask),
         .function = [=](std::span<const Tensor> x) { return masked_fill(x[0], mask.to(x[0].device()), -2.5); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y = x[0];
               for (int64_t i = 0; i < y.shape.numel(); ++i)
                 if (filled[static_cast<size_t>(broadcast_place(c.mask, c.x, i))] != 0) y[i] = -2.5;
               return y;
             },
         .inputs = {{c.x}},
         .tolerances = exact});
  }
}

TEST_CASE("masked_fill: infinities, and NaN below the mask") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const Tensor x(Array::from(std::vector<double>{std::nan(""), 2, 3}, {3}).to(dtype));
    const Tensor y = masked_fill(x, Array::from(std::vector<uint8_t>{1, 0, 2}, {3}), -infinity);
    CHECK(y.to_vector<double>() == std::vector<double>{-infinity, 2, -infinity});
  }
}
