// SPDX-License-Identifier: Apache-2.0
#include "tests/ops/harness.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "autograd/anomaly.h"
#include "autograd/gradcheck.h"
#include "autograd/record.h"
#include "core/parallel.h"
#include "core/storage.h"
#include "tests/device.h"

namespace moxie::testing {

double normal(double normal, double) { return normal; }
double positive(double, double uniform) { return 0.5 + 2 * uniform; }
double away_from_zero(double normal, double) { return normal + (normal < 0 ? -0.1 : 0.1); }
double moderate(double, double uniform) { return 2 * uniform - 1; }

namespace {

std::map<std::string, Coverage>& coverage_so_far() {
  static std::map<std::string, Coverage> all;
  return all;
}

constexpr int64_t gradcheck_up_to = 40000;  // elements of all inputs

double rounded_to_bf16(double value) {
  return static_cast<double>(static_cast<float>(bf16(static_cast<float>(value))));
}

// The numbers of an input, each exact in bf16, so that all dtypes get the same.
std::vector<double> generate(const Input& input, uint32_t stream) {
  const RandomKey key{.seed = 20, .stream = stream}, other{.seed = 21, .stream = stream};
  std::vector<double> values(static_cast<size_t>(input.shape.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = rounded_to_bf16(
        input.generate(static_cast<double>(normal_at(key, i)), static_cast<double>(uniform_at(other, i))));
  if (!input.distinct || values.empty()) return values;
  // Each row: a ladder of numbers that bf16 tells apart, in random order.
  const auto cols = static_cast<size_t>(input.shape.cols());
  for (size_t first = 0; first < values.size(); first += cols) {
    std::vector<size_t> order(cols);
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::pair(values[first + a], a) < std::pair(values[first + b], b); });
    // 32 steps in each power of two, both signs
    for (size_t rank = 0; rank < cols; ++rank) {
      const bool negative = rank < cols / 2;
      const size_t m = negative ? cols / 2 - 1 - rank : rank - cols / 2;
      const double size = std::ldexp(1 + static_cast<double>(m % 32) / 32, static_cast<int>(m / 32));
      values[first + order[rank]] = negative ? -size : size;
    }
  }
  return values;
}

struct Outcome {
  Array y;
  std::vector<Array> grads;  // undefined where the input needs none
};

Dtype dtype_of_input(const Input& input, Dtype dtype) { return input.statistics ? statistics_dtype(dtype) : dtype; }

class OneThread final {
 public:
  OneThread() : before_(threads()) { set_threads(1); }
  ~OneThread() { set_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

class Harness final {
 public:
  explicit Harness(const OpRow& row, Device device = Device::cpu()) : row_(row), device_(device) {
    for (size_t i = 0; i < row.inputs.size(); ++i) {
      Numbers numbers(row.inputs[i].shape);
      numbers.at = generate(row.inputs[i], static_cast<uint32_t>(i));
      elements_ += numbers.shape.numel();
      x_.push_back(std::move(numbers));
    }
  }

  void run() {
    const Poison poison;
    const OneThread one_thread;  // except where several are compared with it
    const Outcome exact = evaluate(Dtype::f64, all());
    check_forward(exact);
    if (!small_only()) check_gradients();
    check_bits(Dtype::f64, exact);
    check_single_gradients(exact);
    check_accumulation(exact);
    check_tied_inputs();
    check_changes_in_place(exact);
    check_anomaly_mode(exact);
    check_low_precision(Dtype::f32, f32_slack * row_.tolerances.f32, exact);
    if (row_.bf16 && !only_races) check_low_precision(Dtype::bf16, row_.tolerances.bf16, exact);
    if (row_.bf16 && !only_races) check_parameters(row_.tolerances.bf16, exact);
    check_no_history();
    if (has_cuda() && (!small_only() || elements_ <= 300)) Harness(row_, Device::cuda()).run_on_device(exact);
  }

 private:
  // What depends on the device, given what the CPU computes.
  void run_on_device(const Outcome& cpu) {
    const Outcome exact = evaluate(Dtype::f64, all());
    check_forward(exact);
    check_near(exact.y, cpu.y, row_.tolerances.f64, "f64 on both devices");
    for (size_t i = 0; i < x_.size(); ++i)
      check_near(exact.grads[i], cpu.grads[i], row_.tolerances.f64,
                 "f64 on both devices, gradient of input " + std::to_string(i));
    if (!small_only()) check_gradients();
    check_bits(Dtype::f64, exact);
    check_accumulation(exact);
    check_low_precision(Dtype::f32, row_.tolerances.f32, cpu);
    if (row_.bf16) check_low_precision(Dtype::bf16, row_.tolerances.bf16, cpu);
    if (row_.bf16) check_parameters(row_.tolerances.bf16, cpu);
  }

  std::vector<bool> all() const { return std::vector<bool>(row_.inputs.size(), true); }

  Array input(size_t i, Dtype dtype) const {
    return Array::from(x_[i].at, x_[i].shape).to(dtype_of_input(row_.inputs[i], dtype)).to(device_);
  }
  // What input() gives, made once to compare with.
  const Array& untouched(size_t i, Dtype dtype) {
    std::vector<Array>& inputs = untouched_[dtype];
    if (inputs.empty())
      for (size_t k = 0; k < x_.size(); ++k) inputs.push_back(input(k, dtype));
    return inputs[i];
  }

  std::vector<Tensor> inputs(Dtype dtype, const std::vector<bool>& needs) const {
    std::vector<Tensor> result;
    for (size_t i = 0; i < x_.size(); ++i) {
      result.emplace_back(input(i, dtype));
      if (needs[i]) result.back().set_requires_grad();
    }
    return result;
  }

  // The same numbers for every dtype, exact in bf16.
  Array cotangent(const Tensor& y) {
    const auto size = static_cast<size_t>(y.numel());
    for (size_t i = cotangent_.size(); i < size; ++i)
      cotangent_.push_back(rounded_to_bf16(static_cast<double>(normal_at({.seed = 22}, i))));
    return Array::from(cotangent_, y.shape()).to(y.dtype()).to(device_);
  }

  static std::vector<Array> grads_of(const std::vector<Tensor>& inputs) {
    std::vector<Array> result;
    for (const Tensor& input : inputs) result.push_back(input.grad());
    return result;
  }

  Outcome evaluate(Dtype dtype, const std::vector<bool>& needs) {
    const std::vector<Tensor> x = inputs(dtype, needs);
    const Tensor y = row_.function(x);
    const Array value = y.value().clone();
    if (y.requires_grad()) y.backward(cotangent(y));
    for (size_t i = 0; i < x.size(); ++i) {  // ops don't write into their inputs
      INFO("input ", i);
      CHECK(same_bits(untouched(i, dtype), x[i].value()));
    }
    CHECK(same_bits(value, y.value()));
    return {value, grads_of(x)};
  }

  // Every element within tolerance of itself or of the root mean square, whichever is larger.
  static void check_near(const Array& got, const Array& wanted, double tolerance, const std::string& what) {
    INFO(what);
    REQUIRE(got.defined());
    REQUIRE(got.shape() == wanted.shape());
    const std::vector<double> a = got.to_vector<double>(), b = wanted.to_vector<double>();
    double squares = 0;
    for (const double value : b) squares += value * value;
    const double mean_size = b.empty() ? 0 : std::sqrt(squares / static_cast<double>(b.size()));
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double error = a[i] == b[i] ? 0 : std::abs(a[i] - b[i]) / std::max(std::abs(b[i]), mean_size);
      if (!(error <= worst)) worst = error, at = i;
      if (std::isnan(error)) break;
    }
    INFO("element ", at, ": ", a.empty() ? 0 : a[at], " instead of ", b.empty() ? 0 : b[at], ", root mean square ",
         mean_size);
    CHECK(worst <= tolerance);
  }

  static bool same_bits(const Array& a, const Array& b) {
    if (a.defined() != b.defined() || a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
    const Array x = a.to(Device::cpu()), y = b.to(Device::cpu());
    return x.bytes() == 0 || std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0;
  }

  static void check_same_bits(const Outcome& a, const Outcome& b, const std::string& what) {
    INFO(what);
    CHECK(same_bits(a.y, b.y));
    for (size_t i = 0; i < a.grads.size(); ++i) {
      INFO("gradient of input ", i);
      CHECK(same_bits(a.grads[i], b.grads[i]));
    }
  }

  void check_forward(const Outcome& exact) const {
    const Numbers wanted = row_.reference(x_);
    REQUIRE(static_cast<int64_t>(wanted.at.size()) == wanted.shape.numel());
    CHECK(exact.y.dtype() == Dtype::f64);
    check_near(exact.y, Array::from(wanted.at, wanted.shape), row_.tolerances.f64, "f64 against the reference");
    for (size_t i = 0; i < x_.size(); ++i) {
      INFO("gradient of input ", i);
      REQUIRE(exact.grads[i].defined());
      CHECK(exact.grads[i].shape() == x_[i].shape);
      CHECK(exact.grads[i].dtype() == Dtype::f64);
    }
  }

  void check_gradients() const {
    if (elements_ > gradcheck_up_to) return;
    GradcheckOptions options;
    if (elements_ > 500) options.directions = 1;
    const GradcheckResult result = gradcheck(row_.function, inputs(Dtype::f64, all()), options);
    INFO(result.message);
    CHECK(result.ok);
  }

  void check_bits(Dtype dtype, const Outcome& first) {
    check_same_bits(first, evaluate(dtype, all()), "two runs");
    if (device_.is_cuda()) return;
    for (const int count : only_races ? std::vector{2} : std::vector{2, 3}) {
      if (count == 3 && dtype != Dtype::f32) continue;
      set_threads(count);
      const Outcome again = evaluate(dtype, all());
      set_threads(1);
      check_same_bits(first, again, std::to_string(count) + " threads");
    }
  }

  void check_single_gradients(const Outcome& joint) {
    if (x_.size() < 2) return;
    for (size_t i = 0; i < x_.size(); ++i) {
      std::vector<bool> needs(x_.size(), false);
      needs[i] = true;
      const Outcome alone = evaluate(Dtype::f64, needs);
      INFO("only input ", i, " requires a gradient");
      CHECK(same_bits(alone.grads[i], joint.grads[i]));
      for (size_t k = 0; k < x_.size(); ++k) CHECK(alone.grads[k].defined() == (k == i));
    }
  }

  // Two graphs into the same leaves, then one graph that uses them twice: each time twice the gradient.
  void check_accumulation(const Outcome& once) {
    const std::vector<Tensor> x = inputs(Dtype::f64, all()), shared = inputs(Dtype::f64, all());
    for (int pass = 0; pass < 2; ++pass) {
      const Tensor y = row_.function(x);
      y.backward(cotangent(y));
    }
    const Tensor y = add(row_.function(shared), row_.function(shared));
    y.backward(cotangent(y));
    std::vector<Tensor> inner;  // results of other ops, whose gradients are not kept in leaves
    const std::vector<Tensor> outer = inputs(Dtype::f64, all());
    for (const Tensor& leaf : outer) inner.push_back(neg(neg(leaf)));
    const Tensor z = add(row_.function(inner), row_.function(inner));
    z.backward(cotangent(z));
    for (size_t i = 0; i < x_.size(); ++i) {
      const Array twice = affine(Tensor(once.grads[i]), 2, 0).value();
      check_near(x[i].grad(), twice, 1e-13, "backward twice, input " + std::to_string(i));
      check_near(shared[i].grad(), twice, 1e-13, "used twice in one graph, input " + std::to_string(i));
      check_near(outer[i].grad(), twice, 1e-13, "used twice behind another op, input " + std::to_string(i));
    }
  }

  // One tensor as two inputs of the op: the sum of both gradients.
  void check_tied_inputs() {
    for (size_t i = 1; i < x_.size(); ++i) {
      if (x_[i].shape != x_[0].shape) continue;
      std::vector<Tensor> tied = inputs(Dtype::f64, all()), separate = inputs(Dtype::f64, all());
      tied[i] = tied[0];
      separate[i] = Tensor(separate[0].value()).set_requires_grad();
      const Tensor y = row_.function(tied), z = row_.function(separate);
      y.backward(cotangent(y));
      z.backward(cotangent(z));
      const Array rest = sub(Tensor(tied[0].grad()), Tensor(separate[i].grad())).value();
      check_near(rest, separate[0].grad(), 1e-12, "inputs 0 and " + std::to_string(i) + " are one tensor");
    }
  }

  // Inputs and the result changed in place between forward and backward: the rule doesn't need them, or the engine
  // knows that it does and says so.
  void check_changes_in_place(const Outcome& exact) {
    for (size_t i = 0; i <= x_.size(); ++i) {
      const std::vector<Tensor> x = inputs(Dtype::f64, all());
      const Tensor y = row_.function(x);
      (i < x_.size() ? x[i] : y).value().fill(0.625);
      INFO("changed in place: ", i < x_.size() ? "input " + std::to_string(i) : "the result");
      bool told = false;
      try {
        y.backward(cotangent(y));
      } catch (const std::invalid_argument& error) {
        told = std::string_view(error.what()).find("was changed in place after the forward pass") < 200;
        INFO(error.what());
        CHECK(told);
      }
      if (!told) check_same_bits({exact.y, grads_of(x)}, exact, "gradients of numbers that the rule doesn't need");
    }
  }

  void check_anomaly_mode(const Outcome& exact) {
    const AnomalyMode guard;
    check_ranges([&] { check_same_bits(evaluate(Dtype::f64, all()), exact, "anomaly mode"); });
  }

  void check_low_precision(Dtype dtype, double tolerance, const Outcome& exact) {
    const Outcome low = evaluate(dtype, all());
    const std::string name = name_of(dtype);
    CHECK(low.y.dtype() == (row_.dtype_kept ? dtype : statistics_dtype(dtype)));
    check_near(low.y, exact.y, tolerance, name + " against f64");
    for (size_t i = 0; i < x_.size(); ++i) {
      CHECK(low.grads[i].dtype() == dtype_of_input(row_.inputs[i], dtype));
      check_near(low.grads[i], exact.grads[i], tolerance,
                 name + " against f64, gradient of input " + std::to_string(i));
    }
    check_bits(dtype, low);
  }

  // bf16 copies of parameters, whose gradients are kept in f32.
  void check_parameters(double tolerance, const Outcome& exact) {
    std::vector<Tensor> masters = inputs(Dtype::f32, all()), copies;
    for (size_t i = 0; i < x_.size(); ++i) copies.emplace_back(input(i, Dtype::bf16), masters[i].node(), 0);
    for (int pass = 1; pass <= 2; ++pass) {
      const Tensor y = row_.function(copies);
      y.backward(cotangent(y));
      for (size_t i = 0; i < x_.size(); ++i) {
        REQUIRE(masters[i].grad().defined());
        CHECK(masters[i].grad().dtype() == Dtype::f32);
        const Array wanted = affine(Tensor(exact.grads[i]), pass, 0).value();
        check_near(masters[i].grad(), wanted, tolerance, "a parameter's f32 gradient, input " + std::to_string(i));
      }
    }
  }

  void check_no_history() const {
    CHECK_FALSE(row_.function(inputs(Dtype::f64, std::vector<bool>(x_.size(), false))).requires_grad());
    const NoGrad guard;
    CHECK_FALSE(row_.function(inputs(Dtype::f64, all())).requires_grad());
  }

  const OpRow& row_;
  Device device_;
  std::vector<Numbers> x_;
  std::map<Dtype, std::vector<Array>> untouched_;
  std::vector<double> cotangent_;
  int64_t elements_ = 0;
};

}  // namespace

void run(const OpRow& row) {
  Coverage& covered = coverage_so_far()[row.covers];
  covered.rows = true;
  for (const Input& input : row.inputs) {
    covered.empty = covered.empty || input.shape.numel() == 0;
    for (const int64_t size : input.shape) {
      covered.size_one = covered.size_one || size == 1;
      covered.around_32 = covered.around_32 || std::abs(size - 32) <= 1;
      covered.around_1024 = covered.around_1024 || std::abs(size - 1024) <= 1;
    }
  }
  std::string shapes;
  for (const Input& input : row.inputs) shapes += fmt::format(" {}", input.shape);
  INFO(row.covers, " ", row.name, shapes);
  REQUIRE(!row.inputs.empty());
  Harness(row).run();
}

void run(const std::vector<OpRow>& rows) {
  for (const OpRow& row : rows) run(row);
}

void covers(std::string_view declaration) { coverage_so_far()[std::string(declaration)]; }
const std::map<std::string, Coverage>& coverage() { return coverage_so_far(); }

Array random_indices(const Shape& shape, int64_t limit, uint64_t seed) {
  std::vector<int32_t> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<int32_t>(random_bits({.seed = seed, .stream = 5}, i) % static_cast<uint64_t>(limit));
  return Array::from(values, shape);
}

}  // namespace moxie::testing
