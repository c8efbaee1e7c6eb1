// SPDX-License-Identifier: Apache-2.0
// autograd/ops/shape.h: flip, pad, broadcast_to, tile, squeeze, unsqueeze, and permutations that are copied in tiles.
#include <doctest/doctest.h>

#include <functional>

#include "tests/ops/errors.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

constexpr Tolerances exact{.f64 = 0, .f32 = 0, .bf16 = 0};

using Index = std::vector<int64_t>;

// y of `shape` whose element at an index is x's at from(index), or `around` where that is outside of x.
Numbers mapped(const Numbers& x, const Shape& shape, const std::function<Index(Index)>& from, double around = 0) {
  Numbers y(shape);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    Index index(static_cast<size_t>(shape.rank()));
    int64_t rest = i;
    for (int64_t d = shape.rank() - 1; d >= 0; --d) {
      index[static_cast<size_t>(d)] = rest % shape[d];
      rest /= shape[d];
    }
    const Index source = from(index);
    int64_t at = 0;
    bool inside = true;
    for (int64_t d = 0; d < x.shape.rank(); ++d) {
      const int64_t place = source[static_cast<size_t>(d)];
      inside = inside && place >= 0 && place < x.shape[d];
      at = at * x.shape[d] + place;
    }
    y[i] = inside ? x[at] : around;
  }
  return y;
}

}  // namespace

TEST_CASE("flip") {
  struct Case {
    Shape shape;
    Index dims;
  };
  const auto reference = [](const Case& c) {
    return [=](std::span<const Numbers> x) {
      return mapped(x[0], c.shape, [&](Index index) {
        for (const int64_t dim : c.dims) {
          int64_t& place = index[static_cast<size_t>(dim < 0 ? dim + c.shape.rank() : dim)];
          place = c.shape[dim] - 1 - place;
        }
        return index;
      });
    };
  };
  for (const Case& c : {Case{{}, {}}, Case{{5}, {0}}, Case{{2, 3}, {}}, Case{{2, 3}, {0}}, Case{{2, 3}, {-1}},
                        Case{{2, 3, 4}, {0, 2}}, Case{{2, 3, 4}, {1}}, Case{{2, 3, 4}, {2, 1, 0}}, Case{{0, 3}, {0}},
                        Case{{1, 3}, {0}}, Case{{31, 33}, {1}}, Case{{17, 1025}, {0, 1}}, Case{{1025, 17}, {1}}})
    run({.covers = "flip(Tensor, span)",
         .function = [=](std::span<const Tensor> x) { return flip(x[0], c.dims); },
         .reference = reference(c),
         .inputs = {{c.shape}},
         .tolerances = exact});
  for (const Shape& shape : {Shape{2, 3}, Shape{0, 3}, Shape{1, 33}, Shape{3, 1023}})
    run({.covers = "flip(Tensor, initializer_list)",
         .function =
             [](std::span<const Tensor> x) {
               return flip(x[0], {0, 1});
             },
         .reference = reference({shape, {0, 1}}),
         .inputs = {{shape}},
         .tolerances = exact});
}

TEST_CASE("pad") {
  struct Case {
    Shape shape;
    std::vector<PadWidth> widths;
    double value;
  };
  const auto reference = [](const Case& c) {
    return [=](std::span<const Numbers> x) {
      Index sizes;
      for (size_t i = 0; i < c.widths.size(); ++i)
        sizes.push_back(c.widths[i].before + c.shape[static_cast<int64_t>(i)] + c.widths[i].after);
      return mapped(
          x[0], Shape(std::span<const int64_t>(sizes)),
          [&](Index index) {
            for (size_t i = 0; i < index.size(); ++i) index[i] -= c.widths[i].before;
            return index;
          },
          c.value);
    };
  };
  for (const Case& c : {Case{{}, {}, 0}, Case{{3}, {{0, 0}}, 1}, Case{{3}, {{1, 2}}, 0}, Case{{3}, {{0, 2}}, -0.5},
                        Case{{2, 3}, {{1, 0}, {0, 1}}, 2}, Case{{2, 3}, {{2, 1}, {0, 0}}, 0},
                        Case{{2, 3, 4}, {{0, 1}, {2, 3}, {4, 0}}, 0},
                        Case{{2, 1, 3, 2}, {{0, 0}, {0, 0}, {1, 1}, {1, 1}}, 0.25}, Case{{0, 3}, {{1, 1}, {0, 0}}, 3},
                        Case{{0}, {{0, 0}}, 3}, Case{{2, 0}, {{0, 0}, {1, 0}}, 3}, Case{{31, 33}, {{1, 1}, {2, 2}}, 0},
                        Case{{17, 1025}, {{3, 0}, {1, 2}}, 0}, Case{{70, 1000}, {{1, 0}, {0, 0}}, 0}})
    run({.covers = "pad(Tensor, span, double)",
         .function = [=](std::span<const Tensor> x) { return pad(x[0], c.widths, c.value); },
         .reference = reference(c),
         .inputs = {{c.shape}},
         .tolerances = exact});
  for (const Shape& shape : {Shape{2, 3}, Shape{0, 3}, Shape{1, 33}, Shape{3, 1023}})
    run({.covers = "pad(Tensor, initializer_list, double)",
         .function =
             [](std::span<const Tensor> x) {
               return pad(x[0], {{1, 0}, {0, 2}});
             },
         .reference = reference({shape, {{1, 0}, {0, 2}}, 0}),
         .inputs = {{shape}},
         .tolerances = exact});
  const Tensor whole(Array::from(std::vector<int32_t>{1, 2}, {2}));
  CHECK(pad(whole, {{1, 1}}, 7).to_vector<int32_t>() == std::vector<int32_t>{7, 1, 2, 7});
}

TEST_CASE("broadcast_to") {
  struct Case {
    Shape from, into;
  };
  constexpr Tolerances sums{.f64 = 1e-12, .f32 = 4e-6, .bf16 = 8e-3};  // of gradients
  for (const Case& c :
       {Case{{}, {}}, Case{{}, {2, 3}}, Case{{1}, {4}}, Case{{3}, {2, 3}}, Case{{2, 1}, {2, 3}}, Case{{2, 3}, {2, 3}},
        Case{{1, 3}, {2, 3}}, Case{{2, 1, 4}, {2, 3, 4}}, Case{{2, 1}, {5, 2, 1}}, Case{{1, 2, 1, 2}, {3, 2, 3, 2}},
        Case{{1}, {0}}, Case{{0, 1}, {2, 0, 3}}, Case{{1, 1}, {3, 0}}, Case{{33}, {31, 33}}, Case{{31, 1}, {31, 33}},
        Case{{1025}, {17, 1025}}, Case{{17, 1}, {17, 5000}}})
    run({.covers = "broadcast_to(Tensor, Shape)",
         .function = [=](std::span<const Tensor> x) { return broadcast_to(x[0], c.into); },
         .reference =
             [=](std::span<const Numbers> x) {
               return mapped(x[0], c.into, [&](Index index) {
                 index.erase(index.begin(), index.begin() + (c.into.rank() - c.from.rank()));
                 for (size_t i = 0; i < index.size(); ++i)
                   if (c.from[static_cast<int64_t>(i)] == 1) index[i] = 0;
                 return index;
               });
             },
         .inputs = {{c.from}},
         .tolerances = sums});
}

TEST_CASE("tile") {
  struct Case {
    Shape shape;
    Index times;
  };
  constexpr Tolerances sums{.f64 = 1e-12, .f32 = 4e-6, .bf16 = 8e-3};
  const auto reference = [](const Case& c) {
    return [=](std::span<const Numbers> x) {
      Index sizes;
      for (size_t i = 0; i < c.times.size(); ++i) sizes.push_back(c.times[i] * c.shape[static_cast<int64_t>(i)]);
      return mapped(x[0], Shape(std::span<const int64_t>(sizes)), [&](Index index) {
        for (size_t i = 0; i < index.size(); ++i) index[i] %= c.shape[static_cast<int64_t>(i)];
        return index;
      });
    };
  };
  for (const Case& c : {Case{{}, {}}, Case{{3}, {1}}, Case{{3}, {2}}, Case{{3}, {0}}, Case{{2, 3}, {3, 1}},
                        Case{{2, 3}, {1, 3}}, Case{{2, 3}, {2, 2}}, Case{{2, 1, 3}, {2, 3, 2}}, Case{{0, 3}, {2, 2}},
                        Case{{2, 3}, {2, 0}}, Case{{1, 2, 1, 2, 1, 2, 1, 2}, {2, 1, 2, 2, 2, 2, 2, 2}},
                        Case{{31, 33}, {2, 1}}, Case{{17, 1025}, {1, 4}}, Case{{9, 12}, {9, 9}}})
    run({.covers = "tile(Tensor, span)",
         .function = [=](std::span<const Tensor> x) { return tile(x[0], c.times); },
         .reference = reference(c),
         .inputs = {{c.shape}},
         .tolerances = sums});
  for (const Shape& shape : {Shape{2, 3}, Shape{0, 3}, Shape{1, 33}, Shape{3, 1023}})
    run({.covers = "tile(Tensor, initializer_list)",
         .function =
             [](std::span<const Tensor> x) {
               return tile(x[0], {1, 2});
             },
         .reference = reference({shape, {1, 2}}),
         .inputs = {{shape}},
         .tolerances = sums});
}

TEST_CASE("squeeze and unsqueeze") {
  struct Case {
    Shape shape, result;
    int64_t dim;
  };
  const auto reference = [](const Case& c) {
    return [=](std::span<const Numbers> x) {
      Numbers y = x[0];
      y.shape = c.result;
      return y;
    };
  };
  for (const Case& c : {Case{{1}, {}, 0}, Case{{2, 1, 3}, {2, 3}, 1}, Case{{2, 3, 1}, {2, 3}, -1}, Case{{1, 0}, {0}, 0},
                        Case{{33, 1}, {33}, 1}, Case{{1, 1023}, {1023}, 0}})
    run({.covers = "squeeze(Tensor, int64_t)",
         .function = [=](std::span<const Tensor> x) { return squeeze(x[0], c.dim); },
         .reference = reference(c),
         .inputs = {{c.shape}},
         .tolerances = exact});
  for (const Case& c : {Case{{}, {1}, 0}, Case{{}, {1}, -1}, Case{{2, 3}, {2, 1, 3}, 1}, Case{{2, 3}, {2, 3, 1}, 2},
                        Case{{2, 3}, {2, 3, 1}, -1}, Case{{2, 3}, {1, 2, 3}, -3}, Case{{0}, {1, 0}, 0},
                        Case{{1}, {1, 1}, 1}, Case{{33}, {33, 1}, 1}, Case{{1023}, {1, 1023}, 0}})
    run({.covers = "unsqueeze(Tensor, int64_t)",
         .function = [=](std::span<const Tensor> x) { return unsqueeze(x[0], c.dim); },
         .reference = reference(c),
         .inputs = {{c.shape}},
         .tolerances = exact});
}

TEST_CASE("permute in tiles") {
  struct Case {
    Shape shape;
    Index order;
  };
  for (const Case& c :
       {Case{{8, 8}, {1, 0}}, Case{{64, 32}, {1, 0}}, Case{{65, 95}, {1, 0}}, Case{{3, 40, 50}, {0, 2, 1}},
        Case{{40, 3, 50}, {2, 1, 0}}, Case{{40, 3, 50}, {1, 2, 0}}, Case{{3, 40, 50}, {2, 0, 1}},
        Case{{2, 33, 3, 9}, {3, 0, 2, 1}}, Case{{2, 33, 3, 9}, {2, 3, 0, 1}}, Case{{300, 257}, {1, 0}}})
    run({.covers = "permute(Tensor, span)",
         .function = [=](std::span<const Tensor> x) { return permute(x[0], c.order); },
         .reference =
             [=](std::span<const Numbers> x) {
               Index sizes;
               for (const int64_t dim : c.order) sizes.push_back(c.shape[dim]);
               return mapped(x[0], Shape(std::span<const int64_t>(sizes)), [&](const Index& index) {
                 Index source(index.size());
                 for (size_t i = 0; i < index.size(); ++i) source[static_cast<size_t>(c.order[i])] = index[i];
                 return source;
               });
             },
         .inputs = {{c.shape}},
         .tolerances = exact});
}

TEST_CASE("errors: copies") {
  expect({
      {[] {
         flip(of({2, 3}), {2});
       },
       "flip: dimension 2 is out of range for shape [2, 3]"},
      {[] {
         flip(of({2, 3}), {1, -1});
       },
       "flip: dimension 1 of shape [2, 3] is named twice"},
      {[] {
         pad(of({2, 3}), {{1, 1}});
       },
       "pad: needs one width per dimension, got 1 for shape [2, 3]"},
      {[] {
         pad(of({2, 3}), {{0, 0}, {1, -1}});
       },
       "pad: widths must not be negative, got 1 and -1 for dimension 1 of [2, 3]; slice cuts off"},
      {[] {
         broadcast_to(of({2, 3}), {2, 4});
       },
       "broadcast_to: [2, 3] doesn't broadcast to [2, 4]; from the last dimension on, sizes must be equal or 1"},
      {[] {
         broadcast_to(of({2, 3}), {3});
       },
       "broadcast_to: [2, 3] doesn't broadcast to [3]; from the last dimension on, sizes must be equal or 1"},
      {[] {
         tile(of({2}), {2, 2});
       },
       "tile: needs one count per dimension, got 2 for shape [2]"},
      {[] { tile(of({2}), {-1}); }, "tile: counts must not be negative, got -1 for dimension 0 of [2]"},
      {[] {
         squeeze(of({2, 1}), 0);
       },
       "squeeze: dimension 0 of [2, 1] must have size 1"},
      {[] { squeeze(of({}), 0); }, "squeeze: dimension 0 is out of range for shape []"},
      {[] { unsqueeze(of({2}), 2); }, "unsqueeze: place 2 is out of range for shape [2]"},
      {[] { unsqueeze(of({2}), -3); }, "unsqueeze: place -3 is out of range for shape [2]"},
  });
}
