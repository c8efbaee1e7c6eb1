// SPDX-License-Identifier: Apache-2.0
// core/shape.h
#include "core/shape.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>
#include <stdexcept>
#include <vector>

using namespace moxie;

TEST_CASE("Shape: sizes, counts and products") {
  const Shape scalar, row{5}, shape{2, 3, 4}, empty{2, 0, 4};
  CHECK(scalar.rank() == 0);
  CHECK(scalar.numel() == 1);
  CHECK(scalar.rows() == 1);
  CHECK(scalar.cols() == 1);
  CHECK(row.rank() == 1);
  CHECK(row.rows() == 1);
  CHECK(row.cols() == 5);
  CHECK(shape.rank() == 3);
  CHECK(shape.numel() == 24);
  CHECK(shape.rows() == 6);
  CHECK(shape.cols() == 4);
  CHECK(shape[0] == 2);
  CHECK(shape[2] == 4);
  CHECK(shape[-1] == 4);
  CHECK(shape[-3] == 2);
  CHECK(shape.product(0, 3) == 24);
  CHECK(shape.product(1, 3) == 12);
  CHECK(shape.product(2, 2) == 1);
  CHECK(empty.numel() == 0);
  CHECK(empty.rows() == 0);
  CHECK(std::vector<int64_t>(shape.begin(), shape.end()) == std::vector<int64_t>{2, 3, 4});
  CHECK(shape.sizes().size() == 3);
  const std::vector<int64_t> sizes{7, 8};
  CHECK(Shape(std::span<const int64_t>(sizes)) == Shape{7, 8});
  CHECK(Shape{1, 1, 1, 1, 1, 1, 1, 2}.rank() == Shape::max_rank);
  CHECK(Shape{0, int64_t{1} << 61}.numel() == 0);
}

TEST_CASE("Shape: comparison") {
  CHECK(Shape{} == Shape{});
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2} != Shape{2, 1});
  CHECK(Shape{} != Shape{1});
}

TEST_CASE("Shape: with, without, inserted") {
  const Shape shape{2, 3, 4};
  CHECK(shape.with(1, 9) == Shape{2, 9, 4});
  CHECK(shape.with(-1, 0) == Shape{2, 3, 0});
  CHECK(shape.without(0) == Shape{3, 4});
  CHECK(shape.without(2) == Shape{2, 3});
  CHECK(Shape{2}.without(0) == Shape{});
  CHECK(shape.inserted(0, 7) == Shape{7, 2, 3, 4});
  CHECK(shape.inserted(1, 7) == Shape{2, 7, 3, 4});
  CHECK(shape.inserted(3, 7) == Shape{2, 3, 4, 7});
  CHECK(Shape{}.inserted(0, 7) == Shape{7});
  CHECK(shape == Shape{2, 3, 4});
}

TEST_CASE("Shape: text") {
  CHECK(Shape{}.to_string() == "[]");
  CHECK(Shape{2, 3}.to_string() == "[2, 3]");
  CHECK(fmt::format("{} and {:>6}", Shape{2, 3}, Shape{1}) == "[2, 3] and    [1]");
}

TEST_CASE("normalize_dim") {
  CHECK(normalize_dim("op", 0, {2, 3}) == 0);
  CHECK(normalize_dim("op", 1, {2, 3}) == 1);
  CHECK(normalize_dim("op", -1, {2, 3}) == 1);
  CHECK(normalize_dim("op", -2, {2, 3}) == 0);
}

TEST_CASE("Shape: errors") {
  struct Case {
    std::function<void()> f;
    const char* message;
  };
  const Shape full{1, 2, 1, 2, 1, 2, 1, 2};
  for (const Case& c : std::vector<Case>{
           {[] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }, "Shape: at most 8 dimensions, got 9"},
           {[] {
              Shape{2, -1};
            },
            "Shape: sizes must not be negative, got -1 in dimension 1"},
           {[] {
              Shape{int64_t{1} << 40, int64_t{1} << 40};
            },
            "Shape: too many elements, [1099511627776, 1099511627776]"},
           {[&] { full.inserted(0, 1); }, "Shape: at most 8 dimensions, [1, 2, 1, 2, 1, 2, 1, 2] has them already"},
           {[] {
              normalize_dim("op", 2, {2, 3});
            },
            "op: dimension 2 is out of range for shape [2, 3]"},
           {[] {
              normalize_dim("op", -3, {2, 3});
            },
            "op: dimension -3 is out of range for shape [2, 3]"},
           {[] { normalize_dim("op", 0, {}); }, "op: dimension 0 is out of range for shape []"},
       })
    CHECK_THROWS_WITH_AS(c.f(), c.message, std::invalid_argument);
}
