// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: gather, index_add, embedding and top_k.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

constexpr Tolerances exact{.f64 = 0, .f32 = 0, .bf16 = 0};

std::vector<int64_t> values_of(const Array& index) {
  const std::vector<int32_t> values = index.to_vector<int32_t>();
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("gather") {
  struct Case {
    Shape shape;
    int64_t dim, count;
  };
  for (const Case& c :
       {Case{{5}, 0, 3}, Case{{5}, 0, 0}, Case{{5}, 0, 9}, Case{{1}, 0, 1}, Case{{3, 4}, 1, 1}, Case{{3, 4}, 1, 2},
        Case{{3, 4}, -1, 6}, Case{{3, 4}, 0, 2}, Case{{2, 3, 4}, 1, 5}, Case{{2, 1, 4}, 1, 3}, Case{{0, 3}, 1, 2},
        Case{{31, 33}, 1, 3}, Case{{33, 31}, 0, 32}, Case{{20, 1025}, 1, 1023}, Case{{1025, 17}, 0, 5}}) {
    const int64_t dim = c.dim < 0 ? c.dim + c.shape.rank() : c.dim;
    const Array index = random_indices(c.shape.with(dim, c.count), c.shape[dim]);
    run({.covers = "gather(Tensor, int64_t, Array)",
         .name = fmt::format("dim {}, {} of them", c.dim, c.count),
         .function = [=](std::span<const Tensor> x) { return gather(x[0], c.dim, index.to(x[0].device())); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y(index.shape());
               const std::vector<int64_t> at = values_of(index);
               const int64_t inner = c.shape.product(dim + 1, c.shape.rank());
               for (int64_t i = 0; i < y.shape.numel(); ++i) {
                 const int64_t outer = i / inner / c.count;
                 y[i] = x[0][(outer * c.shape[dim] + at[static_cast<size_t>(i)]) * inner + i % inner];
               }
               return y;
             },
         .inputs = {{c.shape}}});
  }
}

TEST_CASE("gather: bf16 gradients that meet add up in f32") {
  const Tensor x = Tensor::zeros({2}, {Dtype::bf16}).set_requires_grad();
  const Tensor y = gather(x, 0, Array::full({1000}, 1, {Dtype::i32}));
  y.backward(Array::full({1000}, 1, {Dtype::bf16}));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{0, 1000});
}

TEST_CASE("index_add") {
  struct Case {
    Shape shape;
    int64_t n;
  };
  for (const Case& c : {Case{{3}, 5}, Case{{1}, 1}, Case{{4}, 0}, Case{{3, 2}, 7}, Case{{3, 0}, 2}, Case{{5, 2, 3}, 4},
                        Case{{1, 4}, 6}, Case{{31, 33}, 40}, Case{{3, 1025}, 33}, Case{{1025, 17}, 1023}}) {
    const Array index = random_indices({c.n}, c.shape[0]);
    run({.covers = "index_add(Tensor, Array, Tensor)",
         .function = [=](std::span<const Tensor> x) { return index_add(x[0], index.to(x[0].device()), x[1]); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y = x[0];
               const std::vector<int64_t> at = values_of(index);
               const int64_t inner = c.shape.product(1, c.shape.rank());
               for (int64_t i = 0; i < c.n * inner; ++i)
                 y[at[static_cast<size_t>(i / inner)] * inner + i % inner] += x[1][i];
               return y;
             },
         .inputs = {{c.shape}, {c.shape.with(0, c.n)}}});
  }
  const Tensor nothing = Tensor::zeros({0, 2}), none = Tensor::zeros({0, 2});
  CHECK(index_add(nothing, Array::zeros({0}, {Dtype::i32}), none).shape() == Shape({0, 2}));
  const Tensor ones = Tensor::full({1000}, 1, {Dtype::bf16});
  const Tensor sums = index_add(Tensor::zeros({2}, {Dtype::bf16}), Array::full({1000}, 1, {Dtype::i32}), ones);
  CHECK(sums.to_vector<double>() == std::vector<double>{0, 1000});  // added up in f32
}

TEST_CASE("embedding") {
  struct Case {
    Shape weight, index;
  };
  for (const Case& c : {Case{{4, 3}, {}}, Case{{4, 3}, {0}}, Case{{4, 3}, {6}}, Case{{1, 1}, {1}}, Case{{4, 3}, {2, 5}},
                        Case{{3, 40}, {4100}}, Case{{4, 0}, {2}}, Case{{31, 33}, {33, 2}}, Case{{5, 1025}, {17}},
                        Case{{1023, 17}, {1025}}}) {
    const Array index = random_indices(c.index, c.weight[0]);
    run({.covers = "embedding(Tensor, Array)",
         .function = [=](std::span<const Tensor> x) { return embedding(x[0], index.to(x[0].device())); },
         .reference =
             [=](std::span<const Numbers> x) {
               const int64_t width = c.weight[1];
               Numbers y(c.index.inserted(c.index.rank(), width));
               const std::vector<int64_t> at = values_of(index);
               for (int64_t i = 0; i < y.shape.numel(); ++i)
                 y[i] = x[0][at[static_cast<size_t>(i / width)] * width + i % width];
               return y;
             },
         .inputs = {{c.weight}}});
  }
  // a parameter's gradient in f32: 1000 times 1 + 2^-7
  const Tensor weight = Tensor::zeros({2, 1}).set_requires_grad();
  const Tensor copy(weight.value().to(Dtype::bf16), weight.node(), 0);
  const Tensor y = embedding(copy, Array::full({1000}, 1, {Dtype::i32}));
  y.backward(Array::full(y.shape(), 1 + 0x1p-7, {Dtype::bf16}));
  CHECK(weight.grad().to_vector<double>() == std::vector<double>{0, 1007.8125});
}

TEST_CASE("one_hot") {
  covers("one_hot(Array, int64_t, Dtype)");
  const Poison poison;
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{2, 3}, Shape{33}, Shape{1025}})
    for (const int64_t classes : {int64_t{1}, int64_t{4}, int64_t{33}})
      for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::u8}) {
        const Array index = random_indices(shape, classes);
        const Tensor y = one_hot(index, classes, dtype);
        CHECK(y.dtype() == dtype);
        CHECK(y.shape() == shape.inserted(shape.rank(), classes));
        CHECK_FALSE(y.requires_grad());
        std::vector<double> wanted(static_cast<size_t>(y.numel()));
        const std::vector<int64_t> at = values_of(index);
        for (size_t i = 0; i < at.size(); ++i)
          wanted[i * static_cast<size_t>(classes) + static_cast<size_t>(at[i])] = 1;
        CHECK(y.to_vector<double>() == wanted);
      }
  CHECK(one_hot(Array::zeros({3}, {Dtype::i32}), 2).dtype() == Dtype::f32);
  CHECK(one_hot(Array::zeros({0}, {Dtype::i32}), 0).shape() == Shape({0, 0}));
}

TEST_CASE("top_k") {
  struct Case {
    Shape shape;
    int64_t k;
  };
  for (const Case& c :
       {Case{{1}, 1}, Case{{5}, 1}, Case{{5}, 3}, Case{{5}, 5}, Case{{3, 4}, 2}, Case{{0, 4}, 2}, Case{{2, 3, 4}, 4},
        Case{{1, 1}, 1}, Case{{33, 31}, 2}, Case{{31, 33}, 8}, Case{{2, 1023}, 5}, Case{{20, 1025}, 3}}) {
    const auto sorted = [=](const Numbers& x, int64_t row) {
      std::vector<int64_t> order(static_cast<size_t>(c.shape.cols()));
      std::iota(order.begin(), order.end(), 0);
      const int64_t first = row * c.shape.cols();
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x[first + a] > x[first + b]; });
      return order;
    };
    run({.covers = "top_k(Tensor, int64_t)",
         .name = fmt::format("k = {}", c.k),
         .function = [=](std::span<const Tensor> x) { return top_k(x[0], c.k).values; },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y(c.shape.with(-1, c.k));
               for (int64_t i = 0; i < y.shape.numel(); ++i)
                 y[i] = x[0][i / c.k * c.shape.cols() + sorted(x[0], i / c.k)[static_cast<size_t>(i % c.k)]];
               return y;
             },
         .inputs = {{.shape = c.shape, .distinct = true}},
         .tolerances = exact});
  }
}

TEST_CASE("top_k: indices, ties, NaN and infinities") {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const auto indices = [](std::vector<double> values, int64_t k, Dtype dtype) {
    const auto n = static_cast<int64_t>(values.size());
    const TopK top = top_k(Tensor(Array::from(values, {n}).to(dtype)), k);
    CHECK(top.indices.dtype() == Dtype::i32);
    CHECK(top.indices.shape() == top.values.shape());
    return top.indices.to_vector<int32_t>();
  };
  using Indices = std::vector<int32_t>;
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    CHECK(indices({1, 3, 2}, 3, dtype) == Indices{1, 2, 0});
    CHECK(indices({2, 2, 2, 2}, 3, dtype) == Indices{0, 1, 2});
    CHECK(indices({1, 2, 1, 2}, 4, dtype) == Indices{1, 3, 0, 2});
    CHECK(indices({-0.0, 0.0, -0.0}, 3, dtype) == Indices{0, 1, 2});
    CHECK(indices({nan, 1, nan, -infinity}, 4, dtype) == Indices{1, 3, 0, 2});
    CHECK(indices({nan, nan}, 2, dtype) == Indices{0, 1});
    CHECK(indices({-nan, infinity, -infinity, 0}, 4, dtype) == Indices{1, 3, 2, 0});
    CHECK(indices({-1, -3, -2}, 3, dtype) == Indices{0, 2, 1});
  }
}

TEST_CASE("sort") {
  covers("sort(Tensor, SortOptions)");
  for (const bool descending : {false, true})
    for (const Shape& shape : {Shape{1}, Shape{0}, Shape{5}, Shape{3, 4}, Shape{0, 4}, Shape{3, 0}, Shape{2, 3, 4},
                               Shape{33, 31}, Shape{2, 1023}, Shape{20, 1025}})
      run({.covers = "sort(Tensor, SortOptions)",
           .name = descending ? "falling" : "rising",
           .function = [=](std::span<const Tensor> x) { return sort(x[0], {descending}).values; },
           .reference =
               [=](std::span<const Numbers> x) {
                 Numbers y = x[0];
                 const auto cols = static_cast<std::ptrdiff_t>(shape.cols());
                 for (auto row = y.at.begin(); row != y.at.end(); row += cols) {
                   std::sort(row, row + cols);
                   if (descending) std::reverse(row, row + cols);
                 }
                 return y;
               },
           .inputs = {{.shape = shape, .distinct = true}},
           .tolerances = exact});
}

TEST_CASE("sort: stable, NaN last, indices") {
  const double nan_value = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  using Indices = std::vector<int32_t>;
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const auto indices = [&](std::vector<double> values, bool descending) {
      const auto n = static_cast<int64_t>(values.size());
      const Array x = Array::from(values, {n}).to(dtype);
      const Sorted sorted = sort(Tensor(x), {descending});
      values = x.to_vector<double>();
      CHECK(sorted.indices.dtype() == Dtype::i32);
      const auto at = sorted.indices.to_vector<int32_t>();
      const auto y = sorted.values.to_vector<double>();
      for (size_t i = 0; i < at.size(); ++i) {
        const double wanted = values[static_cast<size_t>(at[i])];
        CHECK((y[i] == wanted || (std::isnan(y[i]) && std::isnan(wanted))));
        CHECK(std::signbit(y[i]) == std::signbit(wanted));  // -0 stays -0
      }
      return at;
    };
    CHECK(indices({3, 1, 2}, false) == Indices{1, 2, 0});
    CHECK(indices({3, 1, 2}, true) == Indices{0, 2, 1});
    CHECK(indices({2, 1, 2, 1}, false) == Indices{1, 3, 0, 2});
    CHECK(indices({2, 1, 2, 1}, true) == Indices{0, 2, 1, 3});
    CHECK(indices({0, -0.0, 0}, false) == Indices{0, 1, 2});
    CHECK(indices({-0.0, 0, -0.0}, true) == Indices{0, 1, 2});
    CHECK(indices({nan_value, 1, -infinity, nan_value, infinity, -1}, false) == Indices{2, 5, 1, 4, 0, 3});
    CHECK(indices({nan_value, 1, -infinity, nan_value, infinity, -1}, true) == Indices{4, 1, 5, 2, 0, 3});
    CHECK(indices({-5e-39, 5e-39, 0}, false) == Indices{0, 2, 1});
  }
  // the gradient goes back to where each value came from
  const Tensor x = Tensor::from({3, 1, 2, 1}, {4}).set_requires_grad();
  sort(x).values.backward(Array::from(std::vector<float>{1, 2, 3, 4}, {4}));
  CHECK(x.grad().to_vector<double>() == std::vector<double>{4, 1, 3, 2});
}

TEST_CASE("sort: long rows with many ties, against a stable sort") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    for (const bool descending : {false, true}) {
      const Array x = random_indices({3, 20000}, 50).to(dtype);
      const auto values = x.to_vector<double>();
      const auto got = sort(Tensor(x), {descending}).indices.to_vector<int32_t>();
      std::vector<int32_t> wanted(values.size());
      for (size_t row = 0; row < 3; ++row) {
        const auto first = wanted.begin() + static_cast<std::ptrdiff_t>(row * 20000);
        std::iota(first, first + 20000, 0);
        std::stable_sort(first, first + 20000, [&](int32_t a, int32_t b) {
          const double left = values[row * 20000 + static_cast<size_t>(a)];
          const double right = values[row * 20000 + static_cast<size_t>(b)];
          return descending ? left > right : left < right;
        });
      }
      CHECK(got == wanted);
    }
}
