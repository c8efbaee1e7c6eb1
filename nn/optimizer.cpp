// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizer.h"

#include <cmath>
#include <map>

#include "core/kernels/optimizer/adamw.h"
#include "core/launch.h"

namespace moxie::nn {
namespace {

template <class T> struct Segments {
  std::vector<ParameterSegment<T>> list;
  int64_t rows = 0;

  void add(const Parameter& parameter, const Array& grad, const Array& mean, const Array& variance, double decay) {
    list.push_back({parameter.value().data<T>(), grad.data<T>(), mean.defined() ? mean.data<T>() : nullptr,
                    variance.defined() ? variance.data<T>() : nullptr, parameter.numel(), rows, static_cast<T>(decay)});
    rows += (parameter.numel() + optimizer_row - 1) / optimizer_row;
  }
  int64_t count() const { return static_cast<int64_t>(list.size()); }
};

template <class T> double norm(const Segments<T>& segments, Device device) {
  std::vector<double> partial(static_cast<size_t>(segments.rows));
  for_rows(device, SquaredGradRows<T>{segments.list.data(), segments.count(), partial.data()}, segments.rows,
           optimizer_row);
  double total = 0;
  for (const double value : partial) total += value;
  return std::sqrt(total);
}

bool takes_part(const Parameter& parameter) {
  return !parameter.frozen() && parameter.numel() > 0 && parameter.grad().defined();
}

// Device and dtype that all parameters share.
Options common_options(const std::vector<NamedParameter>& parameters) {
  if (parameters.empty()) return {};
  const Options first = parameters[0].parameter.value().options();
  for (const NamedParameter& named : parameters)
    check(named.parameter.value().options() == first,
          "AdamW: parameters must share dtype and device, '{}' is {} on {}, '{}' {} on {}", parameters[0].name,
          name_of(first.dtype), first.device.name(), named.name, name_of(named.parameter.value().dtype()),
          named.parameter.value().device().name());
  return first;
}

}  // namespace

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options) : options_(options) {
  check(options.lr >= 0 && options.weight_decay >= 0 && options.epsilon > 0 && options.clip >= 0,
        "AdamW: lr, weight_decay and clip must not be negative and epsilon positive, got {}, {}, {}, {}", options.lr,
        options.weight_decay, options.clip, options.epsilon);
  check(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
        "AdamW: betas must be in [0, 1), got {} and {}", options.beta1, options.beta2);
  common_options(parameters);
  for (NamedParameter& named : parameters) {
    const Array& value = named.parameter.value();
    Slot slot{std::move(named), Array::zeros(value.shape(), value.options()),
              Array::zeros(value.shape(), value.options())};
    slots_.push_back(std::move(slot));
  }
}

double AdamW::step(double lr, double divisor) {
  check(lr >= 0 && divisor > 0, "AdamW: lr must not be negative and divisor positive, got {} and {}", lr, divisor);
  if (slots_.empty()) return 0;
  const Options kind = slots_[0].named.parameter.value().options();
  double grad_length = 0;
  dispatch_float("AdamW", kind.dtype, [&]<class T>(T) {
    if constexpr (!std::is_same_v<T, bf16>) {
      Segments<T> segments;
      std::vector<Array> grads;  // keeps them alive
      for (const Slot& slot : slots_) {
        const Parameter& parameter = slot.named.parameter;
        if (!takes_part(parameter)) continue;
        grads.push_back(parameter.grad());
        segments.add(parameter, grads.back(), slot.mean, slot.variance, parameter.decays() ? options_.weight_decay : 0);
      }
      grad_length = norm(segments, kind.device) / divisor;
      if (!std::isfinite(grad_length))
        throw std::runtime_error(fmt::format(
            "AdamW: the gradient's norm is {} at step {}; lower the learning rate or look for NaN in the data",
            grad_length, steps_));
      const double clip = options_.clip > 0 && grad_length > options_.clip ? options_.clip / grad_length : 1;
      ++steps_;
      const auto at = static_cast<double>(steps_);
      const AdamWRows<T> kernel{segments.list.data(),
                                segments.count(),
                                T(lr),
                                T(options_.beta1),
                                T(options_.beta2),
                                T(options_.epsilon),
                                T(1 - std::pow(options_.beta1, at)),
                                T(1 - std::pow(options_.beta2, at)),
                                T(clip / divisor)};
      for_rows(kind.device, kernel, segments.rows, optimizer_row);
    }
  });
  for (const Slot& slot : slots_) {
    if (takes_part(slot.named.parameter)) slot.named.parameter.refresh();
    slot.named.parameter.clear_grad();
  }
  return grad_length;
}

std::vector<NamedArray> AdamW::state() const {
  std::vector<NamedArray> arrays;
  for (const Slot& slot : slots_) {
    arrays.push_back({slot.named.name + ".mean", slot.mean});
    arrays.push_back({slot.named.name + ".variance", slot.variance});
  }
  return arrays;
}

void AdamW::set_state(const std::vector<NamedArray>& arrays, int64_t steps) {
  check(steps >= 0, "AdamW: steps must not be negative, got {}", steps);
  std::map<std::string, Array> by_name;
  for (const NamedArray& named : arrays) by_name[named.name] = named.array;
  for (const NamedArray& wanted : state()) {
    const auto found = by_name.find(wanted.name);
    check(found != by_name.end(), "AdamW: the state has no tensor '{}'", wanted.name);
    check(found->second.shape() == wanted.array.shape() && found->second.dtype() == wanted.array.dtype(),
          "AdamW: tensor '{}' is {} {} in the state and {} {} here", wanted.name, name_of(found->second.dtype()),
          found->second.shape(), name_of(wanted.array.dtype()), wanted.array.shape());
  }
  for (const NamedArray& mine : state()) mine.array.copy_from(by_name[mine.name].to(mine.array.device()));
  steps_ = steps;
}

double grad_norm(const std::vector<NamedParameter>& parameters) {
  const Options kind = common_options(parameters);
  double result = 0;
  dispatch_float("grad_norm", kind.dtype, [&]<class T>(T) {
    if constexpr (!std::is_same_v<T, bf16>) {
      Segments<T> segments;
      std::vector<Array> grads;
      for (const NamedParameter& named : parameters) {
        if (!takes_part(named.parameter)) continue;
        grads.push_back(named.parameter.grad());
        segments.add(named.parameter, grads.back(), {}, {}, 0);
      }
      result = norm(segments, kind.device);
    }
  });
  return result;
}

}  // namespace moxie::nn
