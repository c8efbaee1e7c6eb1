// SPDX-License-Identifier: Apache-2.0
#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/record.h"
#include "core/philox.h"

namespace moxie {
namespace {

using Values = std::vector<std::vector<double>>;  // the numbers of several tensors

double dot(const Values& x, const Values& y) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < x[i].size(); ++j) total += x[i][j] * y[i][j];
  return total;
}

double norm(const Values& x) { return std::sqrt(dot(x, x)); }

int64_t count(const Values& x) {
  int64_t total = 0;
  for (const std::vector<double>& values : x) total += static_cast<int64_t>(values.size());
  return total;
}

Values zeros_like(const Values& x) {
  Values result;
  for (const std::vector<double>& values : x) result.emplace_back(values.size(), 0.0);
  return result;
}

class Check final {
 public:
  Check(const std::function<std::vector<Tensor>(std::span<const Tensor>)>& f, const std::vector<Tensor>& inputs,
        GradcheckOptions options)
      : f_(f), options_(options) {
    check(options.step > 0, "gradcheck: step must be positive, got {}", options.step);
    check(options.tolerance > 0, "gradcheck: tolerance must be positive, got {}", options.tolerance);
    check(options.directions >= 1, "gradcheck: directions must be at least 1, got {}", options.directions);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor& input = inputs[i];
      if (!input.defined() || !input.requires_grad()) {
        fixed_.push_back(input);
        continue;
      }
      check(input.dtype() == Dtype::f64,
            "gradcheck: input {} is {}; differences need f64, convert it with cast(x, Dtype::f64)", i,
            name_of(input.dtype()));
      fixed_.push_back({});
      checked_.push_back(i);
      shapes_.push_back(input.shape());
      devices_.push_back(input.device());
      x_.push_back(input.to_vector<double>());
    }
    check(!checked_.empty(), "gradcheck: no input requires a gradient; call set_requires_grad() on those to check");
  }

  GradcheckResult run() {
    y_ = forward(x_);
    for (size_t o = 0; o < y_.size(); ++o)
      for (size_t k = 0; k < y_[o].size(); ++k)
        if (!std::isfinite(y_[o][k]))
          return fail(fmt::format("gradcheck: output {}, element {} is {}", o, k, y_[o][k]));
    if (forward(x_) != y_) return fail("gradcheck: f gives different numbers for the same inputs; fix its random keys");
    const Values dy = random_like(y_);
    const Values dx = backward({dy})[0];
    if (result_.ok) compare_accumulation(dy, dx);
    for (int64_t round = 0; round < options_.directions; ++round) {
      for (size_t i = 0; i < checked_.size() && result_.ok; ++i) compare_direction(dy, dx, static_cast<int64_t>(i));
      if (checked_.size() > 1 && result_.ok) compare_direction(dy, dx, -1);
    }
    if (result_.ok && count(y_) > 0 && count(x_) * count(y_) <= options_.full_jacobian_up_to) compare_jacobian();
    return result_;
  }

 private:
  GradcheckResult fail(std::string message) {
    result_.ok = false;
    result_.message = std::move(message);
    return result_;
  }

  Values random_like(const Values& like) {
    Values result = zeros_like(like);
    for (std::vector<double>& values : result) {
      const RandomKey key{.seed = options_.seed, .stream = draws_++};
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(normal_at(key, i));
    }
    return result;
  }

  std::vector<Tensor> tensors(const Values& x, bool leaves) const {
    std::vector<Tensor> result = fixed_;
    for (size_t i = 0; i < checked_.size(); ++i) {
      Tensor& tensor = result[checked_[i]];
      tensor = Tensor(Array::from(x[i], shapes_[i]).to(devices_[i]));
      if (leaves) tensor.set_requires_grad();
    }
    return result;
  }

  // f's outputs of float dtypes.
  std::vector<Tensor> outputs(const std::vector<Tensor>& inputs) const {
    std::vector<Tensor> result;
    const std::vector<Tensor> all = f_(inputs);
    for (size_t i = 0; i < all.size(); ++i) {
      if (!all[i].defined() || !is_float(all[i].dtype())) continue;
      check(all[i].dtype() == Dtype::f64, "gradcheck: output {} is {}; differences need f64 throughout", i,
            name_of(all[i].dtype()));
      result.push_back(all[i]);
    }
    check(!result.empty(), "gradcheck: f gives no output of a float dtype");
    return result;
  }

  Values forward(const Values& x) const {
    const NoGrad guard;
    Values y;
    for (const Tensor& output : outputs(tensors(x, false))) y.push_back(output.to_vector<double>());
    return y;
  }

  // The gradients after one backward pass for each of `cotangents`, whose gradients add up in the same leaves.
  std::vector<Values> backward(const std::vector<Values>& cotangents) const {
    const detail::EnableGrad guard;
    const std::vector<Tensor> inputs = tensors(x_, true);
    std::vector<Values> results;
    for (const Values& dy : cotangents) {
      const std::vector<Tensor> y = outputs(inputs);
      std::vector<Array> upstream;
      for (size_t i = 0; i < y.size(); ++i) upstream.push_back(Array::from(dy[i], y[i].shape()).to(y[i].device()));
      // One node that joins the outputs, so that what they share runs once.
      const Tensor join = record("gradcheck", Array::zeros({}), y, [upstream](std::span<const Array>, Grads& grads) {
        for (size_t i = 0; i < upstream.size(); ++i)
          if (grads.needs(i)) grads.give(i, upstream[i]);
      });
      if (join.requires_grad()) join.backward();
      Values dx = zeros_like(x_);
      for (size_t i = 0; i < checked_.size(); ++i) {
        const Array grad = inputs[checked_[i]].grad();
        if (grad.defined()) dx[i] = grad.to_vector<double>();
      }
      results.push_back(std::move(dx));
    }
    return results;
  }

  // J v by five-point differences.
  Values differences(const Values& v) const {
    const auto at = [&](double distance) {
      Values x = x_;
      for (size_t i = 0; i < x.size(); ++i)
        for (size_t j = 0; j < x[i].size(); ++j) x[i][j] += distance * v[i][j];
      return forward(x);
    };
    const double h = options_.step;
    const Values far_below = at(-2 * h), below = at(-h), above = at(h), far_above = at(2 * h);
    Values result = zeros_like(y_);
    for (size_t i = 0; i < result.size(); ++i)
      for (size_t j = 0; j < result[i].size(); ++j)
        result[i][j] = (8 * (above[i][j] - below[i][j]) - (far_above[i][j] - far_below[i][j])) / (12 * h);
    return result;
  }

  // What rounding in f may do to a difference: a few units in the last place of y, divided by the step.
  double noise(double size_of_y) const {
    return 8 * std::numeric_limits<double>::epsilon() * size_of_y / options_.step;
  }

  // True where the error is allowed; keeps the worst one.
  bool close(double analytic, double numeric, double scale, double floor) {
    const double error = std::abs(analytic - numeric);
    if (error <= floor) return true;  // false for NaN
    result_.worst = std::max(result_.worst, scale > 0 ? error / scale : std::numeric_limits<double>::infinity());
    return error <= options_.tolerance * scale + floor;
  }

  std::string name_of_input(size_t i) const { return fmt::format("input {} ({})", checked_[i], shapes_[i]); }

  void compare_direction(const Values& dy, const Values& dx, int64_t only) {
    Values v = random_like(x_);
    for (size_t i = 0; i < v.size(); ++i)
      if (only >= 0 && i != static_cast<size_t>(only)) std::fill(v[i].begin(), v[i].end(), 0.0);
    const Values jv = differences(v);
    const double analytic = dot(dx, v), numeric = dot(dy, jv), scale = norm(dy) * norm(jv);
    if (close(analytic, numeric, scale, noise(norm(dy) * norm(y_)))) return;
    fail(fmt::format(
        "gradcheck: {}, random direction v: <dx, v> is {:.10g} by backward, <dy, J v> {:.10g} by differences "
        "(error {:.3g}, |dy| |J v| {:.3g})",
        only < 0 ? "all inputs together" : name_of_input(static_cast<size_t>(only)), analytic, numeric,
        std::abs(analytic - numeric), scale));
  }

  // A second backward pass into the same leaves must double their gradients.
  void compare_accumulation(const Values& dy, const Values& dx) {
    const Values twice = backward({dy, dy})[1];
    const double floor = 1e-12 * norm(dx);
    for (size_t i = 0; i < twice.size(); ++i)
      for (size_t j = 0; j < twice[i].size(); ++j) {
        if (std::abs(twice[i][j] - 2 * dx[i][j]) <= floor) continue;
        if (std::isnan(dx[i][j])) continue;  // the comparisons below say more
        fail(
            fmt::format("gradcheck: {}, element {}: a second backward pass makes its gradient {:.10g} instead of twice "
                        "{:.10g}; the rule must add where accumulate is set",
                        name_of_input(i), j, twice[i][j], dx[i][j]));
        return;
      }
  }

  void compare_jacobian() {
    std::vector<std::pair<size_t, size_t>> places;  // of the elements of all outputs
    std::vector<Values> gradients;                  // of each of them
    for (size_t o = 0; o < y_.size(); ++o)
      for (size_t k = 0; k < y_[o].size(); ++k) {
        Values dy = zeros_like(y_);
        dy[o][k] = 1;
        places.emplace_back(o, k);
        gradients.push_back(backward({dy})[0]);
      }
    for (size_t i = 0; i < x_.size(); ++i)
      for (size_t j = 0; j < x_[i].size(); ++j) {
        Values v = zeros_like(x_);
        v[i][j] = 1;
        const Values column = differences(v);
        const double scale = norm(column), floor = noise(norm(y_));
        for (size_t p = 0; p < places.size(); ++p) {
          const auto [o, k] = places[p];
          const double analytic = gradients[p][i][j], numeric = column[o][k];
          if (close(analytic, numeric, scale, floor)) continue;
          fail(fmt::format(
              "gradcheck: {}, element {}, by output {}, element {}: {:.10g} by backward, {:.10g} by differences",
              name_of_input(i), j, o, k, analytic, numeric));
          return;
        }
      }
  }

  const std::function<std::vector<Tensor>(std::span<const Tensor>)>& f_;
  GradcheckOptions options_;
  std::vector<Tensor> fixed_;    // the inputs held fixed, in their places
  std::vector<size_t> checked_;  // places of the others
  std::vector<Shape> shapes_;
  std::vector<Device> devices_;
  Values x_, y_;
  uint32_t draws_ = 0;
  GradcheckResult result_;
};

}  // namespace

GradcheckResult gradcheck(const std::function<std::vector<Tensor>(std::span<const Tensor>)>& f,
                          const std::vector<Tensor>& inputs, GradcheckOptions options) {
  return Check(f, inputs, options).run();
}

GradcheckResult gradcheck(const std::function<Tensor(std::span<const Tensor>)>& f, const std::vector<Tensor>& inputs,
                          GradcheckOptions options) {
  return gradcheck([&f](std::span<const Tensor> x) { return std::vector<Tensor>{f(x)}; }, inputs, options);
}

}  // namespace moxie
