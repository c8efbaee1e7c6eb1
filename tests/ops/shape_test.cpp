// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: reshape, permute, transpose, concat and slice.
#include <doctest/doctest.h>

#include <numeric>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

// What may be added up or moved, but not computed, has to come through exactly.
constexpr Tolerances exact{.f64 = 0, .f32 = 0, .bf16 = 0};

Numbers permuted(const Numbers& x, const std::vector<int64_t>& order) {
  std::vector<int64_t> sizes;
  for (const int64_t dim : order) sizes.push_back(x.shape[dim]);
  Numbers y{Shape(std::span<const int64_t>(sizes))};
  const int64_t rank = x.shape.rank();
  for (int64_t i = 0; i < y.shape.numel(); ++i) {
    std::vector<int64_t> index(static_cast<size_t>(rank));  // in x
    int64_t rest = i, at = 0;
    for (int64_t d = rank - 1; d >= 0; --d) {
      const int64_t dim =
          order[static_cast<size_t>(d)] < 0 ? order[static_cast<size_t>(d)] + rank : order[static_cast<size_t>(d)];
      index[static_cast<size_t>(dim)] = rest % y.shape[d];
      rest /= y.shape[d];
    }
    for (int64_t d = 0; d < rank; ++d) at = at * x.shape[d] + index[static_cast<size_t>(d)];
    y[i] = x[at];
  }
  return y;
}

}  // namespace

TEST_CASE("reshape") {
  struct Case {
    Shape from, into;
  };
  for (const Case& c : {Case{{}, {1, 1}}, Case{{1}, {}}, Case{{0, 3}, {5, 0}}, Case{{2, 3}, {6}}, Case{{6}, {1, 2, 3}},
                        Case{{33, 31}, {31, 33}}, Case{{17, 1025}, {17425}}})
    run({.covers = "reshape(Tensor, Shape)",
         .function = [=](std::span<const Tensor> x) { return reshape(x[0], c.into); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y = x[0];
               y.shape = c.into;
               return y;
             },
         .inputs = {{c.from}},
         .tolerances = exact});
  for (const Shape& shape : {Shape{3, 4}, Shape{0, 4}, Shape{1, 4}, Shape{33, 8}, Shape{4, 1023}})
    run({.covers = "reshape(Tensor, initializer_list)",
         .function =
             [](std::span<const Tensor> x) {
               return reshape(x[0], {2, -1, 2});
             },
         .reference =
             [](std::span<const Numbers> x) {
               Numbers y = x[0];
               y.shape = {2, y.shape.numel() / 4, 2};
               return y;
             },
         .inputs = {{shape}},
         .tolerances = exact});
  const Tensor x = Tensor::zeros({0, 4});
  CHECK(reshape(x, {-1, 2}).shape() == Shape({0, 2}));
  CHECK(reshape(Tensor::zeros({2, 3}), {-1}).shape() == Shape({6}));
  CHECK(reshape(x, Shape{4, 0}).value().shares_storage_with(x.value()));
}

TEST_CASE("permute") {
  struct Case {
    Shape shape;
    std::vector<int64_t> order;
  };
  for (const Case& c :
       {Case{{3}, {0}}, Case{{2, 3}, {1, 0}}, Case{{2, 3}, {0, 1}}, Case{{2, 3, 4}, {2, 0, 1}},
        Case{{2, 3, 4}, {1, 2, 0}}, Case{{2, 3, 4}, {-1, 0, -2}}, Case{{1, 3, 1}, {2, 1, 0}}, Case{{0, 3}, {1, 0}},
        Case{{2, 3, 2, 3}, {0, 2, 1, 3}}, Case{{1, 2, 1, 2, 1, 2, 1, 2}, {7, 6, 5, 4, 3, 2, 1, 0}},
        Case{{31, 33}, {1, 0}}, Case{{1023, 3}, {1, 0}}, Case{{17, 1025}, {1, 0}}, Case{{4, 65, 70}, {1, 0, 2}}})
    run({.covers = "permute(Tensor, span)",
         .function = [=](std::span<const Tensor> x) { return permute(x[0], c.order); },
         .reference = [=](std::span<const Numbers> x) { return permuted(x[0], c.order); },
         .inputs = {{c.shape}},
         .tolerances = exact});
  for (const Shape& shape : {Shape{2, 3, 4}, Shape{2, 0, 4}, Shape{2, 1, 33}, Shape{2, 1025, 3}})
    run({.covers = "permute(Tensor, initializer_list)",
         .function =
             [](std::span<const Tensor> x) {
               return permute(x[0], {1, 2, 0});
             },
         .reference =
             [](std::span<const Numbers> x) {
               return permuted(x[0], {1, 2, 0});
             },
         .inputs = {{shape}},
         .tolerances = exact});
  const Tensor scalar = Tensor::scalar(3);
  CHECK(permute(scalar, std::vector<int64_t>{}).item() == 3);
}

TEST_CASE("transpose") {
  struct Case {
    Shape shape;
    int64_t dim0, dim1;
  };
  for (const Case& c : {Case{{2, 3}, 0, 1}, Case{{2, 3, 4}, 0, -1}, Case{{2, 3, 4}, -2, -1}, Case{{2, 3, 4}, 1, 1},
                        Case{{0, 5}, 0, 1}, Case{{1, 5}, 0, 1}, Case{{33, 31}, 1, 0}, Case{{1025, 17}, 0, 1}}) {
    std::vector<int64_t> order(static_cast<size_t>(c.shape.rank()));
    std::iota(order.begin(), order.end(), 0);
    const auto at = [&](int64_t dim) -> int64_t& {
      return order[static_cast<size_t>(dim < 0 ? dim + c.shape.rank() : dim)];
    };
    std::swap(at(c.dim0), at(c.dim1));
    run({.covers = "transpose(Tensor, int64_t, int64_t)",
         .function = [=](std::span<const Tensor> x) { return transpose(x[0], c.dim0, c.dim1); },
         .reference = [=](std::span<const Numbers> x) { return permuted(x[0], order); },
         .inputs = {{c.shape}},
         .tolerances = exact});
  }
}

TEST_CASE("concat") {
  struct Case {
    std::vector<Shape> shapes;
    int64_t dim;
  };
  const std::vector<Case> cases = {
      {{{2}}, 0},
      {{{2}, {3}}, 0},
      {{{2, 3}, {1, 3}, {4, 3}}, 0},
      {{{2, 3}, {2, 1}, {2, 4}}, 1},
      {{{2, 3}, {2, 3}}, -1},
      {{{2, 2, 3}, {2, 4, 3}}, 1},
      {{{0, 3}, {2, 3}}, 0},
      {{{2, 0}, {2, 0}}, 1},
      {{{0, 3}, {0, 2}}, 1},
      {{{31, 2}, {33, 2}}, 0},
      {{{3, 1023}, {3, 1025}}, 1},
      {{{130, 70}, {130, 80}}, 1},
  };
  for (const Case& c : cases) {
    std::vector<Input> inputs;
    for (const Shape& shape : c.shapes) inputs.push_back({shape});
    run({.covers = "concat(span, int64_t)",
         .function = [=](std::span<const Tensor> x) { return concat(x, c.dim); },
         .reference =
             [=](std::span<const Numbers> x) {
               const int64_t dim = c.dim < 0 ? c.dim + x[0].shape.rank() : c.dim;
               int64_t total = 0;
               for (const Numbers& part : x) total += part.shape[dim];
               Numbers y(x[0].shape.with(dim, total));
               const int64_t outer = y.shape.product(0, dim), inner = y.shape.product(dim + 1, y.shape.rank());
               int64_t at = 0;
               for (int64_t o = 0; o < outer; ++o)
                 for (const Numbers& part : x)
                   for (int64_t i = 0; i < part.shape[dim] * inner; ++i)
                     y[at++] = part[o * part.shape[dim] * inner + i];
               return y;
             },
         .inputs = inputs,
         .tolerances = exact});
  }
  for (const auto& [first, second] : {std::pair<Shape, Shape>{{3}, {2}}, {{0}, {2}}, {{1}, {33}}, {{1025}, {31}}})
    run({.covers = "concat(initializer_list, int64_t)",
         .function =
             [](std::span<const Tensor> x) {
               return concat({x[0], x[0], x[1]}, 0);
             },
         .reference =
             [](std::span<const Numbers> x) {
               Numbers y({x[0].shape.numel() * 2 + x[1].shape.numel()});
               y.at = x[0].at;
               y.at.insert(y.at.end(), x[0].at.begin(), x[0].at.end());
               y.at.insert(y.at.end(), x[1].at.begin(), x[1].at.end());
               return y;
             },
         .inputs = {{first}, {second}},
         .tolerances = {.f64 = 1e-12, .f32 = 4e-6, .bf16 = 8e-3}});  // gradients of x[0] add up
}

TEST_CASE("slice") {
  struct Case {
    Shape shape;
    int64_t dim, first, count;
  };
  for (const Case& c :
       {Case{{5}, 0, 1, 3}, Case{{5}, 0, 0, 5}, Case{{5}, -1, 5, 0}, Case{{4, 3}, 0, 2, 2}, Case{{4, 3}, 1, 1, 1},
        Case{{2, 4, 3}, 1, 1, 2}, Case{{2, 4, 3}, -1, 0, 2}, Case{{0, 3}, 1, 1, 2}, Case{{1, 1}, 0, 0, 1},
        Case{{33, 31}, 1, 2, 28}, Case{{17, 1025}, 1, 1, 1023}, Case{{1025, 17}, 0, 1, 1023}})
    run({.covers = "slice(Tensor, int64_t, int64_t, int64_t)",
         .function = [=](std::span<const Tensor> x) { return slice(x[0], c.dim, c.first, c.count); },
         .reference =
             [=](std::span<const Numbers> x) {
               const int64_t dim = c.dim < 0 ? c.dim + c.shape.rank() : c.dim;
               Numbers y(c.shape.with(dim, c.count));
               const int64_t outer = c.shape.product(0, dim), inner = c.shape.product(dim + 1, c.shape.rank());
               int64_t at = 0;
               for (int64_t o = 0; o < outer; ++o)
                 for (int64_t i = 0; i < c.count * inner; ++i) y[at++] = x[0][(o * c.shape[dim] + c.first) * inner + i];
               return y;
             },
         .inputs = {{c.shape}},
         .tolerances = exact});
}

TEST_CASE("copying ops also move integers") {
  const Tensor x(Array::from(std::vector<int32_t>{1, 2, 3, 4, 5, 6}, {2, 3}));
  CHECK(transpose(x, 0, 1).to_vector<int32_t>() == std::vector<int32_t>{1, 4, 2, 5, 3, 6});
  CHECK(slice(x, 1, 1, 2).to_vector<int32_t>() == std::vector<int32_t>{2, 3, 5, 6});
  CHECK(concat({x, x}, 0).shape() == Shape({4, 3}));
  CHECK(reshape(x, {3, 2}).dtype() == Dtype::i32);
}
