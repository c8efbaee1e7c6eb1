// SPDX-License-Identifier: Apache-2.0
// autograd/ops/loss.h
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/ops/errors.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

const std::vector<Shape> shapes = {{},      {1},      {0},       {7},        {3, 0},     {2, 3, 4},
                                   {3, 31}, {33, 33}, {3, 1023}, {17, 1025}, {1025, 17}, {2, 5000}};
constexpr Reduction reductions[] = {Reduction::mean, Reduction::sum, Reduction::none};
const char* name_of(Reduction r) { return r == Reduction::mean ? "mean" : r == Reduction::sum ? "sum" : "none"; }

// The single losses, added up as wanted.
Numbers reduced(Numbers each, Reduction reduction) {
  if (reduction == Reduction::none) return each;
  Numbers total{Shape{}};
  for (const double value : each.at) total[0] += value;
  if (reduction == Reduction::mean) total[0] /= std::max(1.0, static_cast<double>(each.at.size()));
  return total;
}

// Of numbers near integers and of numbers near integers and a half: differences are away from 0, 1 and 2.
double near_integer(double, double uniform) {
  const double x = 6 * uniform;
  return std::floor(x) + 0.3 * (x - std::floor(x) - 0.5);
}
double near_half(double normal, double uniform) { return near_integer(normal, 1 - uniform) - 2.5; }
double probability(double, double uniform) { return 0.05 + 0.9 * uniform; }
double unsure(double, double uniform) { return 0.3 + 0.4 * uniform; }  // where differences are exact enough

using Loss = std::function<Tensor(const Tensor&, const Tensor&, Reduction)>;
using Formula = std::function<double(double, double, int64_t)>;  // prediction, target, column

void run_pairs(const std::string& covers, const std::string& name, const Loss& loss, const Formula& formula,
               Generator of_prediction, Generator of_target, Tolerances tolerances, int64_t cols = 0) {
  for (const Shape& shape : shapes)
    for (const Reduction reduction : reductions) {
      if (cols != 0 && shape.cols() != cols) continue;
      run({.covers = covers,
           .name = name + name_of(reduction),
           .function = [=](std::span<const Tensor> x) { return loss(x[0], x[1], reduction); },
           .reference =
               [=](std::span<const Numbers> x) {
                 Numbers each(x[0].shape);
                 for (int64_t i = 0; i < each.shape.numel(); ++i) each[i] = formula(x[0][i], x[1][i], i % shape.cols());
                 return reduced(each, reduction);
               },
           .inputs = {{shape, of_prediction}, {shape, of_target}},
           .tolerances = tolerances,
           .dtype_kept = false});
    }
}

double sum_of_exponentials(const double* x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += std::exp(x[i]);
  return total;
}

}  // namespace

TEST_CASE("cross_entropy") {
  struct Case {
    Shape shape;
    bool ignore;  // every third target
  };
  for (const Case& c : {Case{{4}, false}, Case{{1, 1}, false}, Case{{0, 5}, false}, Case{{3, 5}, false},
                        Case{{7, 5}, true}, Case{{1, 5}, true}, Case{{2, 3, 4}, true}, Case{{31, 33}, true},
                        Case{{3, 1023}, false}, Case{{17, 1025}, true}, Case{{1025, 17}, true}}) {
    std::vector<int32_t> targets =
        random_indices(c.shape.without(c.shape.rank() - 1), c.shape.cols()).to_vector<int32_t>();
    for (size_t i = 0; c.ignore && i < targets.size(); i += 3) targets[i] = -100;
    const Array array = Array::from(targets, c.shape.without(c.shape.rank() - 1));
    run({.covers = "cross_entropy(Tensor, Array, int64_t)",
         .name = c.ignore ? "some ignored" : "",
         .function = [=](std::span<const Tensor> x) { return cross_entropy(x[0], array.to(x[0].device())); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y{Shape{}};
               const int64_t cols = c.shape.cols();
               double count = 0;
               for (size_t row = 0; row < targets.size(); ++row) {
                 if (targets[row] < 0) continue;
                 const double* in = &x[0].at[row * static_cast<size_t>(cols)];
                 y[0] += std::log(sum_of_exponentials(in, cols)) - in[targets[row]];
                 ++count;
               }
               if (count > 0) y[0] /= count;
               return y;
             },
         .inputs = {{c.shape}},
         .dtype_kept = false});
  }
}

TEST_CASE("cross_entropy: sure predictions, infinities, other ignored indices") {
  // bf16 probabilities near 1 must not cancel: the gradient of the target is p - 1
  const Tensor logits = Tensor(Array::from(std::vector<float>{6, 0}, {1, 2}).to(Dtype::bf16)).set_requires_grad();
  cross_entropy(logits, Array::from(std::vector<int32_t>{0}, {1})).backward();
  const double p = 1 / (1 + std::exp(6.0));
  CHECK(logits.grad().to_vector<double>()[0] == doctest::Approx(-p).epsilon(4e-3));
  CHECK(logits.grad().to_vector<double>()[1] == doctest::Approx(p).epsilon(4e-3));

  const Tensor masked = Tensor::from({0, -std::numeric_limits<float>::infinity(), 0}, {1, 3}).set_requires_grad();
  const Tensor loss = cross_entropy(masked, Array::from(std::vector<int32_t>{2}, {1}));
  CHECK(loss.item() == doctest::Approx(std::log(2.0)));
  loss.backward();
  CHECK(masked.grad().to_vector<float>() == std::vector<float>{0.5f, 0, -0.5f});

  // large logits don't cost the loss its digits
  CHECK(cross_entropy(Tensor::from({1e4, 1e4 + 1}, {1, 2}), Array::from(std::vector<int32_t>{0}, {1})).item() ==
        doctest::Approx(std::log(1 + std::exp(1.0))).epsilon(1e-6));

  const Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2});
  const Array targets = Array::from(std::vector<int32_t>{1, 7}, {2});
  CHECK(cross_entropy(x, targets, 7).item() == doctest::Approx(std::log(1 + std::exp(-1.0))));
  // the ignored index may be a class, such as that of padding
  const Tensor padded = Tensor::from({1, 2, 3, 4}, {2, 2}).set_requires_grad();
  const Array with_padding = Array::from(std::vector<int32_t>{1, 0}, {2});
  const Tensor without = cross_entropy(padded, with_padding, 0);
  CHECK(without.item() == doctest::Approx(std::log(1 + std::exp(-1.0))));
  without.backward();
  CHECK(padded.grad().to_vector<float>()[0] == doctest::Approx(1 / (1 + std::exp(1.0))));
  CHECK(padded.grad().rows(1, 1).to_vector<float>() == std::vector<float>{0, 0});
  const CrossEntropyOptions unsure_of_two{.label_smoothing = 0.5, .ignore_index = 1};
  CHECK(cross_entropy(padded, with_padding, unsure_of_two).item() ==
        doctest::Approx(0.75 + std::log(1 + std::exp(-1.0))));
  // an index beyond i32 ignores nothing
  CHECK_THROWS(cross_entropy(x, Array::from(std::vector<int32_t>{1, -1}, {2}), (int64_t{1} << 32) + 5));
  CHECK_THROWS(cross_entropy(x, Array::from(std::vector<int32_t>{1, -1}, {2})));
  CHECK_THROWS(cross_entropy(x, Array::from(std::vector<int32_t>{1, 2}, {2})));
  const Tensor all_ignored = Tensor::from({1, 2}, {1, 2}).set_requires_grad();
  const Tensor zero = cross_entropy(all_ignored, Array::from(std::vector<int32_t>{-100}, {1}));
  CHECK(zero.item() == 0);
  zero.backward();
  CHECK(all_ignored.grad().to_vector<float>() == std::vector<float>{0, 0});
}

TEST_CASE("cross_entropy: class weights, label smoothing, reductions") {
  struct Case {
    Shape shape;
    bool ignore;  // every third target
  };
  for (const Case& c : {Case{{4}, false}, Case{{1, 1}, false}, Case{{0, 5}, false}, Case{{3, 5}, false},
                        Case{{7, 5}, true}, Case{{1, 5}, true}, Case{{2, 3, 4}, true}, Case{{31, 33}, true},
                        Case{{3, 1023}, false}, Case{{17, 1025}, true}, Case{{1025, 17}, true}})
    for (const Reduction reduction : reductions)
      for (const double smoothing : {0.0, 0.1, 1.0})
        for (const bool weighted : {false, true}) {
          if (c.shape.numel() > 1000 && (smoothing == 1 || reduction == Reduction::sum)) continue;
          const Shape rows = c.shape.without(c.shape.rank() - 1);
          const int64_t cols = c.shape.cols();
          std::vector<int32_t> targets = random_indices(rows, cols).to_vector<int32_t>();
          for (size_t i = 0; c.ignore && i < targets.size(); i += 3) targets[i] = 77777;
          std::vector<double> weight(static_cast<size_t>(cols), 1.0);
          for (size_t i = 0; weighted && i < weight.size(); ++i) weight[i] = 0.25 * static_cast<double>(i % 7);
          const Array target_array = Array::from(targets, rows), weights = Array::from(weight, {cols});
          run({.covers = "cross_entropy(Tensor, Array, CrossEntropyOptions)",
               .name = fmt::format("{}, smoothing {}{}{}", name_of(reduction), smoothing, weighted ? ", weighted" : "",
                                   c.ignore ? ", some ignored" : ""),
               .function =
                   [=](std::span<const Tensor> x) {
                     CrossEntropyOptions options{
                         .label_smoothing = smoothing, .ignore_index = 77777, .reduction = reduction};
                     if (weighted) options.class_weights = weights.to(statistics_dtype(x[0].dtype())).to(x[0].device());
                     return cross_entropy(x[0], target_array.to(x[0].device()), options);
                   },
               .reference =
                   [=](std::span<const Numbers> x) {
                     Numbers each(rows);
                     double count = 0;
                     for (int64_t row = 0; row < rows.numel(); ++row) {
                       const auto target = static_cast<size_t>(targets[static_cast<size_t>(row)]);
                       if (target == 77777) continue;
                       const double* in = &x[0].at[static_cast<size_t>(row * cols)];
                       const double lse = cols == 1 ? in[0] : std::log(sum_of_exponentials(in, cols));
                       each[row] = (1 - smoothing) * weight[target] * (lse - in[target]);
                       for (int64_t i = 0; i < cols; ++i)
                         each[row] +=
                             smoothing / static_cast<double>(cols) * weight[static_cast<size_t>(i)] * (lse - in[i]);
                       count += weight[target];
                     }
                     Numbers y = reduced(each, reduction == Reduction::mean ? Reduction::sum : reduction);
                     if (reduction == Reduction::mean) y[0] = count > 0 ? y[0] / count : 0;
                     return y;
                   },
               .inputs = {{c.shape}},
               .tolerances = {.f64 = 1e-11, .f32 = 1e-5, .bf16 = 1.6e-2},
               .dtype_kept = false});
        }
  // PyTorch's numbers: cross_entropy([[1, 2, 3], [3, 1, 0]], [2, 0], weight = [1, 2, 4], label_smoothing = 0.2)
  const Tensor x = Tensor::from({1, 2, 3, 3, 1, 0}, {2, 3});
  const Array targets = Array::from(std::vector<int32_t>{2, 0}, {2});
  const CrossEntropyOptions options{.label_smoothing = 0.2,
                                    .class_weights = Array::from(std::vector<float>{1, 2, 4}, {3})};
  CHECK(cross_entropy(x, targets, options).item() == doctest::Approx(0.6086053655468047).epsilon(1e-6));
  // nothing counts
  const Tensor lonely = Tensor::from({1, 2}, {1, 2}).set_requires_grad();
  const Tensor zero = cross_entropy(lonely, Array::from(std::vector<int32_t>{0}, {1}),
                                    {.class_weights = Array::from(std::vector<float>{0, 1}, {2})});
  CHECK(zero.item() == 0);
  zero.backward();
  CHECK(lonely.grad().to_vector<float>() == std::vector<float>{0, 0});
}

TEST_CASE("mse_loss, l1_loss, huber_loss") {
  constexpr Tolerances tolerances{.f64 = 1e-12, .f32 = 4e-6, .bf16 = 8e-3};
  run_pairs(
      "mse_loss(Tensor, Tensor, Reduction)", "", mse_loss,
      [](double x, double y, int64_t) { return (x - y) * (x - y); }, normal, normal, tolerances);
  run_pairs(
      "l1_loss(Tensor, Tensor, Reduction)", "", l1_loss, [](double x, double y, int64_t) { return std::abs(x - y); },
      near_integer, near_half, tolerances);
  for (const double delta : {1.0, 2.0})
    run_pairs(
        "huber_loss(Tensor, Tensor, double, Reduction)", fmt::format("delta {}, ", delta),
        [=](const Tensor& x, const Tensor& y, Reduction reduction) { return huber_loss(x, y, delta, reduction); },
        [=](double x, double y, int64_t) {
          const double d = std::abs(x - y);
          return d <= delta ? d * d / 2 : delta * (d - delta / 2);
        },
        near_integer, near_half, tolerances);
  const Tensor x = Tensor::from({1, 2}, {2}).set_requires_grad(), nan = Tensor::from({1, std::nanf("")}, {2});
  l1_loss(x, nan, Reduction::sum).backward();
  CHECK(x.grad().to_vector<float>()[0] == 0);  // equal
  CHECK(std::isnan(x.grad().to_vector<float>()[1]));
  CHECK(mse_loss(of({0, 3}), of({0, 3})).item() == 0);  // the mean of nothing
}

TEST_CASE("binary_cross_entropy_with_logits") {
  const auto softplus = [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); };
  constexpr Tolerances tolerances{.f64 = 1e-12, .f32 = 4e-6, .bf16 = 1.2e-2};
  const std::string op = "binary_cross_entropy_with_logits(Tensor, Tensor, Array, Reduction)";
  run_pairs(
      op, "",
      [](const Tensor& x, const Tensor& y, Reduction r) { return binary_cross_entropy_with_logits(x, y, {}, r); },
      [=](double x, double y, int64_t) { return y * softplus(-x) + (1 - y) * softplus(x); }, normal, probability,
      tolerances);
  for (const int64_t cols : {1, 4, 31, 1025, 5000}) {
    std::vector<double> weight(static_cast<size_t>(cols));
    for (size_t i = 0; i < weight.size(); ++i) weight[i] = 0.5 + static_cast<double>(i % 5);
    const Array array = Array::from(weight, {cols});
    run_pairs(
        op, "weighted, ",
        [=](const Tensor& x, const Tensor& y, Reduction r) {
          return binary_cross_entropy_with_logits(x, y, array.to(statistics_dtype(x.dtype())).to(x.device()), r);
        },
        [=](double x, double y, int64_t col) {
          return weight[static_cast<size_t>(col)] * y * softplus(-x) + (1 - y) * softplus(x);
        },
        normal, probability, tolerances, cols);
  }
  // one weight for all, far logits, exact small losses
  const Tensor x = Tensor::from({-200, 200, -20}, {3}).set_requires_grad(), y = Tensor::from({1, 0, 0}, {3});
  const Array three = Array::full({}, 3);
  const Tensor loss = binary_cross_entropy_with_logits(x, y, three, Reduction::none);
  CHECK(loss.to_vector<float>()[0] == 600);
  CHECK(loss.to_vector<float>()[1] == 200);
  CHECK(loss.to_vector<float>()[2] == doctest::Approx(std::exp(-20.0)).epsilon(1e-5));
  loss.backward(Array::full({3}, 1));
  CHECK(x.grad().to_vector<float>()[0] == -3);
  CHECK(x.grad().to_vector<float>()[1] == 1);
  CHECK(x.grad().to_vector<float>()[2] == doctest::Approx(std::exp(-20.0)).epsilon(1e-5));
}

TEST_CASE("binary_cross_entropy") {
  run_pairs("binary_cross_entropy(Tensor, Tensor, Reduction)", "", binary_cross_entropy,
            [](double x, double y, int64_t) { return -(y * std::log(x) + (1 - y) * std::log1p(-x)); }, unsure,
            probability, {.f64 = 1e-12, .f32 = 1e-5, .bf16 = 1.6e-2});
  const Tensor x = Tensor::from({0, 1, 0, 1}, {4}).set_requires_grad(), y = Tensor::from({0, 1, 1, 0}, {4});
  const Tensor loss = binary_cross_entropy(x, y, Reduction::none);
  CHECK(loss.to_vector<float>() == std::vector<float>{0, 0, 100, 100});
  loss.backward(Array::full({4}, 1));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, 0, -1e12f, 1e12f});
  // The bound on the divisor is where it is said to be: the derivative for y = 1 is -1 / x down to x = 1e-12.
  const Tensor small = Tensor(Array::from(std::vector<double>{1.5e-12, 0.75e-12}, {2})).set_requires_grad();
  binary_cross_entropy(small, Tensor(Array::full({2}, 1, {Dtype::f64})), Reduction::sum).backward();
  CHECK(small.grad().to_vector<double>()[0] == doctest::Approx(-1 / 1.5e-12).epsilon(1e-9));
  CHECK(small.grad().to_vector<double>()[1] == doctest::Approx(-1e12).epsilon(1e-9));
}

TEST_CASE("kl_divergence") {
  for (const Shape& shape : shapes)
    for (const Reduction reduction : reductions) {
      if (shape.rank() == 0) continue;
      run({.covers = "kl_divergence(Tensor, Tensor, Reduction)",
           .name = name_of(reduction),
           .function = [=](std::span<const Tensor> x) { return kl_divergence(x[0], x[1], reduction); },
           .reference =
               [=](std::span<const Numbers> x) {
                 Numbers each(shape.without(shape.rank() - 1));
                 for (int64_t i = 0; i < shape.numel(); ++i)
                   each[i / shape.cols()] += std::exp(x[0][i]) * (x[0][i] - x[1][i]);
                 return reduced(each, reduction);
               },
           .inputs = {{shape}, {shape}},
           .tolerances = {.f64 = 1e-11, .f32 = 1e-5, .bf16 = 1.2e-2},
           .dtype_kept = false});
    }
  const float infinity = std::numeric_limits<float>::infinity();
  const Tensor p = Tensor::from({-infinity, 0}, {1, 2}).set_requires_grad();
  const Tensor q = Tensor::from({-infinity, std::log(0.5f)}, {1, 2}).set_requires_grad();
  const Tensor loss = kl_divergence(p, q);
  CHECK(loss.item() == doctest::Approx(std::log(2.0)));
  loss.backward();
  CHECK(p.grad().to_vector<float>()[0] == 0);
  CHECK(q.grad().to_vector<float>() == std::vector<float>{0, -1});
  CHECK(kl_divergence(q, Tensor::from({0, -infinity}, {1, 2})).item() == infinity);  // Q rules out what P does
}

TEST_CASE("errors: losses") {
  expect({
      {[] {
         mse_loss(of({2, 3}), of({3}));
       },
       "mse_loss: prediction and target must have one shape, got [2, 3] and [3]"},
      {[] { l1_loss(of({2}), of({2}, Dtype::f64)); },
       "l1_loss: prediction is f32 and target is f64; convert one with cast"},
      {[] { mse_loss(of({2}, Dtype::i32), of({2}, Dtype::i32)); },
       "mse_loss: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { huber_loss(of({2}), of({2}), 0); }, "huber_loss: delta must be positive, got 0"},
      {[] {
         binary_cross_entropy_with_logits(of({2, 3}), of({2}));
       },
       "binary_cross_entropy_with_logits: logits and targets must have one shape, got [2, 3] and [2]"},
      {[] {
         binary_cross_entropy_with_logits(of({2, 3}), of({2, 3}), Array::zeros({2}));
       },
       "binary_cross_entropy_with_logits: positive_weight must be one number or one for each of the last dimension, "
       "got "
       "logits [2, 3] and positive_weight [2]"},
      {[] {
         binary_cross_entropy_with_logits(of({2, 3}), of({2, 3}), Array::zeros({3}, {Dtype::f64}));
       },
       "binary_cross_entropy_with_logits: for logits in f32 on cpu positive_weight must be f32 there, got f64 on cpu"},
      {[] { binary_cross_entropy(of({2}), of({3})); },
       "binary_cross_entropy: probabilities and targets must have one shape, got [2] and [3]"},
      {[] {
         kl_divergence(of({2, 3}), of({2, 4}));
       },
       "kl_divergence: log_p and log_q must have one shape [.., classes], got [2, 3] and [2, 4]"},
      {[] { kl_divergence(of({}), of({})); },
       "kl_divergence: log_p and log_q must have one shape [.., classes], got [] and []"},
      {[] {
         cross_entropy(of({1, 3}), indices({0}), {.label_smoothing = 1.5});
       },
       "cross_entropy: label_smoothing must be from 0 to 1, got 1.5"},
      {[] {
         cross_entropy(of({1, 3}), indices({0}), {.class_weights = Array::zeros({2})});
       },
       "cross_entropy: class_weights must be [classes], got logits [1, 3] and [2]"},
      {[] {
         cross_entropy(of({1, 3}), indices({0}), {.class_weights = Array::zeros({3}, {Dtype::f64})});
       },
       "cross_entropy: for logits in f32 on cpu class_weights must be f32 there, got f64 on cpu"},
      {[] {
         cross_entropy(of({1, 3}), indices({3}), {.label_smoothing = 0.1});
       },
       "cross_entropy: index 3 at position 0 is out of range [0, 3)"},
  });
}
