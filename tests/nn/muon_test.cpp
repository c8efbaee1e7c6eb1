// SPDX-License-Identifier: Apache-2.0
// nn/optimizers/muon.h: which parameters are matrices, and what is done to each.
#include "nn/optimizers/muon.h"

#include "autograd/ops/elementwise.h"
#include "core/gemm.h"
#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;

namespace {

struct Model {
  Parameter weight;
  std::optional<Parameter> bias;
  static void visit(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
};

// -w after one step at rate 1 from w = 0 with the given gradient, without decay: the scaled direction.
Array direction(const Array& grad, MuonOptions options = {}, const std::vector<int64_t>& stacked = {}) {
  const Model model{Parameter(Array::zeros(grad.shape(), grad.options()), {.stacked = stacked}), {}};
  options.weight_decay = 0;
  options.clip = 0;
  Muon optimizer(parameters(model), options);
  add_grad(model.weight, grad);
  optimizer.step(1);
  return neg(Tensor(model.weight.value())).value();
}

// The matrix X X^T (or X^T X, whichever is smaller).
Numbers gram(const Array& x) {
  const int64_t rows = x.dim(0), cols = x.dim(1), side = std::min(rows, cols);
  const bool is_wide = rows <= cols;
  const Array result = Array::zeros({side, side}, x.options());
  Gemm product;
  product.dtype = product.out_dtype = Dtype::f64;
  product.transpose_a = !is_wide, product.transpose_b = is_wide;
  product.m = product.n = side, product.k = std::max(rows, cols);
  product.a = product.b = x.raw(), product.lda = product.ldb = cols, product.c = result.raw(), product.ldc = side;
  gemm(x.device(), product);
  return result.to_vector<double>();
}

}  // namespace

DEVICE_TEST_CASE("Muon: a matrix's direction is nearly orthogonal, wide or tall, and of the documented length") {
  for (const Shape& shape : {Shape{24, 60}, Shape{60, 24}, Shape{32, 32}}) {
    INFO(shape.to_string());
    const Array found = direction(random(shape, 3));
    const double unit = 0.2 * std::sqrt(static_cast<double>(std::max(shape[0], shape[1])));
    const Numbers squares = gram(found);
    const auto side = static_cast<size_t>(std::min(shape[0], shape[1]));
    double trace = 0, all = 0;  // of S^2 and S^4, with the singular values S
    for (size_t i = 0; i < side; ++i) trace += squares[i * side + i] / (unit * unit);
    for (const double value : squares) all += value * value / std::pow(unit, 4);
    const auto count = static_cast<double>(side);
    CHECK(trace / count > 0.5);
    CHECK(trace / count < 1.4);
    if (shape[0] != shape[1]) CHECK(all / count - std::pow(trace / count, 2) < 0.2);  // they are near each other
  }
}

DEVICE_TEST_CASE("Muon: scales by name") {
  const Array grad = random({12, 3}, 4);
  const Array match = direction(grad), original = direction(grad, {.scale = MuonScale::original});
  CHECK(match.to_vector<double>()[0] / original.to_vector<double>()[0] ==
        doctest::Approx(0.2 * std::sqrt(12.0) / 2).epsilon(1e-12));
  const Array wide = random({3, 12}, 5);
  CHECK(direction(wide).to_vector<double>()[0] /
            direction(wide, {.scale = MuonScale::original}).to_vector<double>()[0] ==
        doctest::Approx(0.2 * std::sqrt(12.0)).epsilon(1e-12));
}

DEVICE_TEST_CASE("Muon: experts and stacked matrices are each on their own, as if they were alone") {
  const Array grad = random({3, 9, 4}, 6);
  for (const int64_t iterations : {4, 5}) {
    const MuonOptions options{.iteration = {.iterations = iterations}};
    const Array together = direction(grad, options, {2, 4, 3});
    for (int64_t expert = 0; expert < 3; ++expert) {
      int64_t first = 0;
      for (const int64_t rows : {2, 4, 3}) {
        const auto part = [&](const Array& of) { return of.rows(expert, 1).reshape({9, 4}).rows(first, rows).clone(); };
        INFO("expert ", expert, " rows ", first, " with ", iterations, " iterations");
        CHECK(difference(part(together), direction(part(grad), options)) < 1e-12);
        first += rows;
      }
    }
    CHECK(difference(direction(grad, options), together) > 0.01);
  }
}

DEVICE_TEST_CASE("Muon: an expert without a gradient stays where it is") {
  const Array grad = random({2, 4, 3}, 7, 1, Dtype::f32);
  grad.rows(1, 1).fill(0);
  const Array found = direction(grad);
  CHECK(difference(found.rows(0, 1).reshape({4, 3}), direction(grad.rows(0, 1).reshape({4, 3}).clone())) < 1e-6);
  for (const double value : found.rows(1, 1).to_vector<double>()) CHECK(value == 0);
}

DEVICE_TEST_CASE("Muon: takes matrices but no tables, or what it is told to") {
  const auto named = [](const char* name, const Shape& shape, bool table = false) {
    return NamedParameter{name, Parameter(Array::zeros(shape, {Dtype::f32, current_device()}), {.table = table})};
  };
  CHECK(is_muon_matrix(named("linear", {3, 2})));
  CHECK(is_muon_matrix(named("experts", {4, 3, 2})));
  CHECK_FALSE(is_muon_matrix(named("bias", {3})));
  CHECK_FALSE(is_muon_matrix(named("kernel", {4, 3, 2, 2})));
  CHECK_FALSE(is_muon_matrix(named("embedding", {3, 2}, true)));
  const auto states = [&](const MuonOptions& options) {
    std::vector<NamedParameter> all;
    all.push_back(named("linear", {3, 2}));
    all.push_back(named("embedding", {3, 2}, true));
    all.push_back(named("bias", {3}));
    std::vector<std::string> names;
    for (const NamedArray& array : Muon(std::move(all), options).state()) names.push_back(array.name);
    return names;
  };
  using Names = std::vector<std::string>;
  CHECK(states({}) == Names{"linear.momentum", "embedding.mean", "embedding.variance", "bias.mean", "bias.variance"});
  CHECK(states({.matrices = [](const NamedParameter& p) { return p.name == "embedding"; }}) ==
        Names{"linear.mean", "linear.variance", "embedding.momentum", "bias.mean", "bias.variance"});
  CHECK(refusal([&] { states({.matrices = [](const NamedParameter&) { return true; }}); }) ==
        "Muon: 'bias' can't be taken as a matrix, its shape is [3]; it needs at least two dimensions");
}

DEVICE_TEST_CASE("Muon: the others get AdamW at their share of the learning rate") {
  const Model model{Parameter(random({3, 2}, 1)), Parameter(Array::zeros({2}, {Dtype::f64, current_device()}))};
  Muon optimizer(parameters(model), {.clip = 0, .adamw_lr_scale = 0.25});
  add_grad(*model.bias, Array::from(std::vector<double>{3, -5}, {2}, current_device()));
  optimizer.step(0.1);
  CHECK(difference(model.bias->value(), Array::from(std::vector<double>{-0.025, 0.025}, {2}, current_device())) < 1e-7);
}
