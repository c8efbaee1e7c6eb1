// SPDX-License-Identifier: Apache-2.0
// autograd/ops/shape.h: stack and split.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/ops/errors.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

constexpr Tolerances exact{.f64 = 0, .f32 = 0, .bf16 = 0};

Numbers stacked(std::span<const Numbers> parts, int64_t dim) {
  const Shape& shape = parts[0].shape;
  Numbers y(shape.inserted(dim, static_cast<int64_t>(parts.size())));
  const int64_t inner = shape.product(dim, shape.rank());
  int64_t at = 0;
  for (int64_t o = 0; o < shape.product(0, dim); ++o)
    for (const Numbers& part : parts)
      for (int64_t i = 0; i < inner; ++i) y[at++] = part[o * inner + i];
  return y;
}

// Elements [first, first + count) along dim.
Numbers cut(const Numbers& x, int64_t dim, int64_t first, int64_t count) {
  Numbers y(x.shape.with(dim, count));
  const int64_t outer = x.shape.product(0, dim), inner = x.shape.product(dim + 1, x.shape.rank());
  int64_t at = 0;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < count * inner; ++i) y[at++] = x[(o * x.shape[dim] + first) * inner + i];
  return y;
}

}  // namespace

TEST_CASE("stack") {
  struct Case {
    Shape shape;
    int64_t count, dim;
  };
  for (const Case& c : {Case{{}, 3, 0}, Case{{2}, 1, 0}, Case{{2}, 3, 0}, Case{{2}, 3, 1}, Case{{2, 3}, 2, -1},
                        Case{{2, 3}, 2, 1}, Case{{2, 3}, 2, -3}, Case{{0, 3}, 2, 1}, Case{{31, 33}, 3, 1},
                        Case{{1023}, 2, 1}, Case{{1, 3}, 2, 0}, Case{{17, 1025}, 4, 0}, Case{{2, 20000}, 2, 0}})
    run({.covers = "stack(span, int64_t)",
         .function = [=](std::span<const Tensor> x) { return stack(x, c.dim); },
         .reference =
             [=](std::span<const Numbers> x) { return stacked(x, c.dim < 0 ? c.dim + c.shape.rank() + 1 : c.dim); },
         .inputs = std::vector<Input>(static_cast<size_t>(c.count), Input{c.shape}),
         .tolerances = exact});
  for (const Shape& shape : {Shape{3}, Shape{0}, Shape{1}, Shape{33}, Shape{1023}})
    run({.covers = "stack(initializer_list, int64_t)",
         .function =
             [](std::span<const Tensor> x) {
               return stack({x[0], x[1]});
             },
         .reference = [](std::span<const Numbers> x) { return stacked(x, 0); },
         .inputs = {{shape}, {shape}},
         .tolerances = exact});
  const Tensor whole(Array::from(std::vector<int32_t>{1, 2}, {2}));
  CHECK(stack({whole, whole}, 1).to_vector<int32_t>() == std::vector<int32_t>{1, 1, 2, 2});
}

TEST_CASE("split") {
  struct Case {
    Shape shape;
    std::vector<int64_t> sizes;
    int64_t dim;
  };
  // The parts are put together again in reverse order.
  const auto reversed = [](std::vector<Tensor> parts, int64_t dim) {
    std::reverse(parts.begin(), parts.end());
    return concat(parts, dim);
  };
  const auto reference = [](const Case& c) {
    return [=](std::span<const Numbers> x) {
      const int64_t dim = c.dim < 0 ? c.dim + c.shape.rank() : c.dim;
      Numbers y(c.shape);
      const int64_t outer = c.shape.product(0, dim), inner = c.shape.product(dim + 1, c.shape.rank());
      int64_t start = c.shape[dim], to = 0;
      for (size_t k = c.sizes.size(); k-- > 0;) {
        start -= c.sizes[k];
        const Numbers part = cut(x[0], dim, start, c.sizes[k]);
        for (int64_t o = 0; o < outer; ++o)
          for (int64_t i = 0; i < c.sizes[k] * inner; ++i)
            y[(o * c.shape[dim] + to) * inner + i] = part[o * c.sizes[k] * inner + i];
        to += c.sizes[k];
      }
      return y;
    };
  };
  for (const Case& c :
       {Case{{5}, {5}, 0}, Case{{5}, {2, 3}, 0}, Case{{5}, {2, 0, 3}, -1}, Case{{4, 3}, {1, 1, 1}, 1},
        Case{{2, 4, 3}, {3, 1}, 1}, Case{{0, 3}, {1, 2}, 1}, Case{{3, 0}, {0, 0}, 1}, Case{{33, 31}, {2, 28, 1}, 1},
        Case{{17, 1025}, {1, 1023, 1}, 1}, Case{{1025, 17}, {1000, 25}, 0}, Case{{1, 3}, {1, 2}, 1}})
    run({.covers = "split(Tensor, span, int64_t)",
         .function = [=](std::span<const Tensor> x) { return reversed(split(x[0], c.sizes, c.dim), c.dim); },
         .reference = reference(c),
         .inputs = {{c.shape}},
         .tolerances = exact});
  for (const int64_t rows : {2, 0, 1, 33, 1023}) {
    const Case list{{rows, 5}, {4, 1}, 1}, equal{{rows, 6}, {2, 2, 2}, 1};
    run({{.covers = "split(Tensor, initializer_list, int64_t)",
          .function =
              [=](std::span<const Tensor> x) {
                return reversed(split(x[0], {4, 1}, 1), 1);
              },
          .reference = reference(list),
          .inputs = {{list.shape}},
          .tolerances = exact},
         {.covers = "split(Tensor, int64_t, int64_t)",
          .function = [=](std::span<const Tensor> x) { return reversed(split(x[0], 3, -1), 1); },
          .reference = reference(equal),
          .inputs = {{equal.shape}},
          .tolerances = exact}});
  }
  CHECK(split(of({2, 5}), {5}, 1).size() == 1);  // a list of sizes, not a number of parts
  const Tensor whole(Array::from(std::vector<int32_t>{1, 2, 3}, {3}));
  CHECK(split(whole, {2, 1}, 0)[1].to_vector<int32_t>() == std::vector<int32_t>{3});
  // a part that nobody used has no gradient
  const Tensor x = Tensor::from({1, 2, 3}, {3}).set_requires_grad();
  sum(split(x, {1, 2}, 0)[1]).backward();
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, 1, 1});
}

TEST_CASE("errors: stack and split") {
  expect({
      {[] { stack(std::span<const Tensor>()); }, "stack: needs at least one tensor"},
      {[] {
         stack({of({2, 3}), of({3, 2})});
       },
       "stack: shapes must agree, got [2, 3] and [3, 2]"},
      {[] {
         stack({of({2}), of({2}, Dtype::f64)});
       },
       "stack: the first tensor is f32 and another is f64; convert one with cast"},
      {[] {
         stack({of({2, 3})}, 3);
       },
       "stack: dimension 3 is out of range for tensors of shape [2, 3]"},
      {[] {
         stack({of({1, 1, 1, 1, 1, 1, 1, 1})});
       },
       "Shape: at most 8 dimensions, [1, 1, 1, 1, 1, 1, 1, 1] has them already"},
      {[] {
         split(of({4, 3}), 2, 2);
       },
       "split: dimension 2 is out of range for shape [4, 3]"},
      {[] {
         split(of({4, 3}), 2, 1);
       },
       "split: 2 parts don't divide dimension 1 of [4, 3] evenly"},
      {[] {
         split(of({4, 3}), 0, 1);
       },
       "split: 0 parts don't divide dimension 1 of [4, 3] evenly"},
      {[] {
         split(of({4, 3}), {2, 3}, 0);
       },
       "split: 2 sizes with sum 5 don't make up dimension 0 of [4, 3]"},
      {[] {
         split(of({4, 3}), {5, -1}, 0);
       },
       "split: sizes must not be negative, got -1"},
      {[] { split(of({0}), std::vector<int64_t>{}, 0); }, "split: 0 sizes with sum 0 don't make up dimension 0 of [0]"},
  });
}
