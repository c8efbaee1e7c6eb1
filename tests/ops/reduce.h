// SPDX-License-Identifier: Apache-2.0
// Rows of ops that work along one dimension.
#pragma once
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "tests/ops/harness.h"

namespace moxie::testing {

struct AlongCase {
  Shape shape;
  int64_t dim;
};

inline const std::vector<AlongCase> along_cases = {
    {{1}, 0},          {{0}, 0},        {{7}, 0},        {{33}, 0},        {{7}, -1},        {{3, 0}, 0},
    {{0, 3}, 1},       {{2, 3, 4}, 0},  {{2, 3, 4}, 1},  {{2, 3, 4}, 2},   {{2, 3, 4}, -3},  {{1, 5}, 0},
    {{5, 1}, 0},       {{5, 1}, 1},     {{1, 1, 1}, 1},  {{31, 33}, 0},    {{31, 33}, 1},    {{1023, 3}, 0},
    {{1025, 3}, 0},    {{3, 1023}, 1},  {{3, 1025}, -1}, {{2, 127, 3}, 1}, {{2, 129, 3}, 1}, {{4095}, 0},
    {{4097}, 0},       {{17, 1025}, 0}, {{17, 1025}, 1}, {{1025, 17}, 0},  {{1025, 17}, 1},  {{20000}, 0},
    {{3, 40, 150}, 1}, {{2, 9000}, 1},  {{9000, 2}, 0},
};

using Line = std::vector<double>;

// Calls f with the numbers along dimension `dim`, for every place of the others, and with the places of the line.
inline void for_lines(const Shape& shape, int64_t dim,
                      const std::function<void(int64_t line, const std::vector<int64_t>& places)>& f) {
  if (dim < 0) dim += shape.rank();
  const int64_t outer = shape.product(0, dim), n = shape[dim], inner = shape.product(dim + 1, shape.rank());
  std::vector<int64_t> places(static_cast<size_t>(n));
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      for (int64_t k = 0; k < n; ++k) places[static_cast<size_t>(k)] = (o * n + k) * inner + i;
      f(o * inner + i, places);
    }
}

inline Line line_of(const Numbers& x, const std::vector<int64_t>& places) {
  Line line;
  for (const int64_t place : places) line.push_back(x[place]);
  return line;
}

// f of the numbers along dimension `dim`, for every place of the others.
inline Numbers along(const Numbers& x, int64_t dim, bool keep, const std::function<double(const Line&)>& f) {
  if (dim < 0) dim += x.shape.rank();
  Numbers y(keep ? x.shape.with(dim, 1) : x.shape.without(dim));
  for_lines(x.shape, dim, [&](int64_t line, const std::vector<int64_t>& places) { y[line] = f(line_of(x, places)); });
  return y;
}

struct ReductionOptions {
  Generator generate = normal;
  Tolerances tolerances = {};
  bool of_nothing = false;  // has a value for an empty line
  int64_t at_least = 1;     // elements of a line, where it is not empty
  int64_t at_most = 20000;
  bool takes(int64_t n) const { return n == 0 ? of_nothing : n >= at_least && n <= at_most; }
};

// Rows of "name(Tensor, int64_t, third)", over every case.
inline void run_reduction(const std::string& name, Tensor (*function)(const Tensor&, int64_t, bool),
                          double (*reference)(const Line&), const ReductionOptions& options = {},
                          const std::string& third = "bool") {
  for (const AlongCase& c : along_cases)
    for (const bool keep : {false, true}) {
      if (!options.takes(c.shape[c.dim])) continue;
      if (keep && c.shape.numel() > 100) continue;
      run({.covers = name + "(Tensor, int64_t, " + third + ")",
           .name = "dim " + std::to_string(c.dim) + (keep ? ", kept" : ""),
           .function = [=](std::span<const Tensor> x) { return function(x[0], c.dim, keep); },
           .reference = [=](std::span<const Numbers> x) { return along(x[0], c.dim, keep, reference); },
           .inputs = {{c.shape, options.generate}},
           .tolerances = options.tolerances});
    }
}

// Rows of "name(Tensor..)" over everything.
inline void run_total(const std::string& declaration, Tensor (*function)(const Tensor&),
                      double (*reference)(const Line&), const ReductionOptions& options = {}) {
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{31}, Shape{3, 11}, Shape{1025}, Shape{17, 1025}}) {
    if (!options.takes(shape.numel())) continue;
    run({.covers = declaration,
         .function = [=](std::span<const Tensor> x) { return function(x[0]); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y{Shape{}};
               y[0] = reference(x[0].at);
               return y;
             },
         .inputs = {{shape, options.generate}},
         .tolerances = options.tolerances});
  }
}

}  // namespace moxie::testing
