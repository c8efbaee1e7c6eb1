// SPDX-License-Identifier: Apache-2.0
// autograd/ops/reduce.h: max, min, argmax and argmin.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernels/reduce/extreme.h"
#include "core/parallel.h"
#include "core/thread_team.h"
#include "tests/ops/reduce.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

constexpr Tolerances exact{.f64 = 0, .f32 = 0, .bf16 = 0};
const double quiet_nan = std::numeric_limits<double>::quiet_NaN();
const double infinity = std::numeric_limits<double>::infinity();

struct Choice {
  std::string name;
  Tensor (*along_dim)(const Tensor&, int64_t, bool);
  Tensor (*of_all)(const Tensor&);
  Array (*index_along_dim)(const Tensor&, int64_t, bool);
  Array (*index_of_all)(const Tensor&);
  double direction;
};

const Choice choices[] = {{"max", moxie::max, moxie::max, argmax, argmax, 1},
                          {"min", moxie::min, moxie::min, argmin, argmin, -1}};

// The first NaN, otherwise the first of the largest.
size_t place_of_best(const Line& line, double direction) {
  size_t best = 0;
  for (size_t i = 1; i < line.size(); ++i) {
    if (std::isnan(line[best])) break;
    if (std::isnan(line[i]) || direction * line[i] > direction * line[best]) best = i;
  }
  return best;
}

double best_of(const Line& line, double direction) { return line[place_of_best(line, direction)]; }

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Values, indices and the gradient of numbers with many ties, against plain loops.
void check_choice(const Choice& choice, const Array& x, int64_t dim) {
  INFO(choice.name, fmt::format(" of {} {} along {}", name_of(x.dtype()), x.shape(), dim));
  Numbers numbers(x.shape());
  numbers.at = x.to_vector<double>();
  const Tensor leaf = Tensor(x.clone()).set_requires_grad();
  const Tensor y = choice.along_dim(leaf, dim, false);
  const Array index = choice.index_along_dim(leaf, dim, false);
  CHECK(index.dtype() == Dtype::i32);
  REQUIRE(index.shape() == y.shape());
  y.backward(Array::full(y.shape(), 3, y.options()));
  const std::vector<double> values = y.to_vector<double>(), gradient = leaf.grad().to_vector<double>();
  const std::vector<int32_t> at = index.to_vector<int32_t>();
  std::vector<double> wanted(gradient.size());
  int64_t wrong = 0;
  for_lines(x.shape(), dim, [&](int64_t line, const std::vector<int64_t>& places) {
    const size_t best = place_of_best(line_of(numbers, places), choice.direction);
    wrong += at[static_cast<size_t>(line)] != static_cast<int32_t>(best);
    wrong += !same(values[static_cast<size_t>(line)], numbers[places[best]]);
    wanted[static_cast<size_t>(places[best])] = 3;
  });
  CHECK(wrong == 0);
  CHECK(gradient == wanted);
}

}  // namespace

TEST_CASE("max and min over a dimension") {
  for (const Choice& choice : choices)
    for (const AlongCase& c : along_cases) {
      // a ladder of all elements: no ties along any dimension
      if (c.shape[c.dim] == 0 || c.shape.numel() > 4000) continue;
      for (const bool keep : {false, true})
        run({.covers = choice.name + "(Tensor, int64_t, bool)",
             .name = fmt::format("of {} along {}{}", c.shape, c.dim, keep ? ", kept" : ""),
             .function =
                 [=](std::span<const Tensor> x) { return choice.along_dim(reshape(x[0], c.shape), c.dim, keep); },
             .reference =
                 [=](std::span<const Numbers> x) {
                   Numbers shaped(c.shape);
                   shaped.at = x[0].at;
                   return along(shaped, c.dim, keep, [&](const Line& line) { return best_of(line, choice.direction); });
                 },
             .inputs = {{.shape = {c.shape.numel()}, .distinct = true}},
             .tolerances = exact});
    }
}

TEST_CASE("max and min of everything") {
  for (const Choice& choice : choices)
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{33}, Shape{3, 11}, Shape{1025}, Shape{4000}})
      run({.covers = choice.name + "(Tensor)",
           .function = [=](std::span<const Tensor> x) { return choice.of_all(x[0]); },
           .reference =
               [=](std::span<const Numbers> x) {
                 Numbers y{Shape{}};
                 y[0] = best_of(x[0].at, choice.direction);
                 return y;
               },
           .inputs = {{.shape = shape, .distinct = shape.rank() < 2}},
           .tolerances = exact});
}

TEST_CASE("argmax and argmin: the lowest index wins, in every layout") {
  const Poison poison;
  for (const Choice& choice : choices) {
    covers("arg" + choice.name + "(Tensor, int64_t, bool)");
    for (const AlongCase& c : along_cases) {
      if (c.shape[c.dim] == 0) continue;
      for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
        for (const int64_t values : {1, 4, 200}) check_choice(choice, random_indices(c.shape, values).to(dtype), c.dim);
    }
    // pieces of rows, strips of columns
    for (const AlongCase& c : {AlongCase{{16384}, 0}, AlongCase{{16385}, 0}, AlongCase{{2, 50000}, 1},
                               AlongCase{{3, 2050}, 0}, AlongCase{{2, 3, 1024}, 1}, AlongCase{{2, 70, 1025}, 1}})
      check_choice(choice, random_indices(c.shape, 1 << 20).to(Dtype::f32), c.dim);
    CHECK(choice.index_along_dim(Tensor::zeros({2, 3}), -1, true).shape() == Shape({2, 1}));
    CHECK(choice.index_along_dim(Tensor::zeros({0, 3}), 1, false).shape() == Shape({0}));
    CHECK(choice.index_along_dim(Tensor::zeros({2, 0, 3}), 0, false).shape() == Shape({0, 3}));
  }
}

TEST_CASE("argmax and argmin of everything") {
  for (const Choice& choice : choices) {
    covers("arg" + choice.name + "(Tensor)");
    CHECK(choice.index_of_all(Tensor::zeros({})).item() == 0);
    const Tensor x = Tensor::from({1, -3, 2, -3, 2, 0}, {2, 3});
    CHECK(choice.index_of_all(x).item() == (choice.direction > 0 ? 2 : 1));
    CHECK(choice.index_of_all(x).shape() == Shape{});
    // equals in several pieces, then a better one in the last, then NaN before it
    std::vector<double> values(40000, 0);
    for (const size_t i : {size_t{20000}, size_t{17000}, size_t{39000}}) values[i] = choice.direction;
    const auto found = [&] { return choice.index_of_all(Tensor::from(values, {4, 10000})).item(); };
    CHECK(found() == 17000);
    values[39999] = 2 * choice.direction;
    CHECK(found() == 39999);
    values[35000] = quiet_nan;
    values[36000] = quiet_nan;
    CHECK(found() == 35000);
    CHECK(std::isnan(choice.of_all(Tensor::from(values, {40000})).item()));
  }
}

TEST_CASE("max and min: NaN, infinities and signed zeros") {
  for (const Choice& choice : choices)
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
      const auto check_line = [&](const std::vector<double>& values) {
        const auto n = static_cast<int64_t>(values.size());
        check_choice(choice, Array::from(values, {n}).to(dtype), 0);
        std::vector<double> twice;  // the same as columns
        for (const double value : values) twice.insert(twice.end(), {value, value});
        check_choice(choice, Array::from(twice, {n, 2}).to(dtype), 0);
      };
      check_line({1, quiet_nan, 3, quiet_nan});
      check_line({quiet_nan, infinity});
      check_line({infinity, quiet_nan, -infinity});
      check_line({-infinity, infinity, infinity, -infinity});
      check_line({-infinity, -infinity});
      check_line({infinity, infinity});
      check_line({0, -0.0, 0});
      check_line({-0.0, 0, -0.0});
      check_line({quiet_nan});
    }
}

TEST_CASE("argmax: the same for any number of threads") {
  const Tensor rows(random_indices({3, 60000}, 100).to(Dtype::f32)),
      columns(random_indices({40, 5000}, 10).to(Dtype::f32));
  const int before = threads();
  std::vector<std::vector<int32_t>> results;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    results.push_back(argmax(rows, 1).to_vector<int32_t>());
    results.push_back(argmax(columns, 0).to_vector<int32_t>());
  }
  set_threads(before);
  for (size_t i = 2; i < results.size(); ++i) CHECK(results[i] == results[i % 2]);
}

TEST_CASE("argmax on a team of several threads") {
  const Array x = random_indices({4, 500}, 50).to(Dtype::f32);
  for (const bool across : {false, true}) {
    const Array one = across ? argmax(Tensor(x), 0) : argmax(Tensor(x), 1);
    const Array value = Array::empty({500}), index = Array::empty({500}, {Dtype::i32});
    if (across)
      run_rows_thread_team(
          ExtremeOfColumns<float>{x.data<float>(), value.data<float>(), index.data<int32_t>(), 4, 500, 1, 1}, 1, 3);
    else
      run_rows_thread_team(
          ExtremeOfRow<float>{x.data<float>(), nullptr, value.data<float>(), index.data<int32_t>(), 500, 1, 1}, 4, 3);
    CHECK(index.rows(0, one.numel()).to_vector<int32_t>() == one.to_vector<int32_t>());
  }
}
