// SPDX-License-Identifier: Apache-2.0
// What optimizers are made of: their parameters with what they keep for each, and the frame of a step.
#pragma once
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/kernels/optimizer/segments.h"
#include "core/launch.h"
#include "nn/optimizers/interface.h"

namespace moxie::nn {

// Calls f(T{}) with the type of parameters, float or double.
template <class F> void dispatch_parameter(Dtype dtype, F&& f) {
  if (dtype == Dtype::f64)
    f(double{});
  else
    f(float{});
}

// One parameter of an optimizer.
struct OptimizerSlot {
  NamedParameter named;
  double lr_scale = 1, weight_decay = 0;
  std::vector<NamedArray> state = {};  // at most two arrays of the parameter's shape, such as "mean" and "variance"

  // It has a gradient and isn't frozen.
  bool takes_part() const;
};

// Parameters as the kernels of core/kernels/optimizer see them.
template <class T> class Segments final {
 public:
  explicit Segments(Device where) : device_(where) {}
  void add(const OptimizerSlot& slot) {
    grads_.push_back(slot.named.parameter.grad());  // keeps it alive
    add(slot.named.parameter.value(), grads_.back(), state_of(slot, 0), state_of(slot, 1), slot.lr_scale,
        slot.weight_decay);
    slots_.push_back(&slot);
  }
  // Undefined arrays become null pointers.
  void add(const Array& value, const Array& grad, const Array& first, const Array& second, double lr_scale,
           double decay) {
    const auto pointer = [](const Array& array) { return array.defined() ? array.data<T>() : nullptr; };
    list_.push_back({pointer(value), pointer(grad), pointer(first), pointer(second), value.numel(), rows_,
                     static_cast<T>(lr_scale), static_cast<T>(decay)});
    rows_ += (value.numel() + optimizer_row - 1) / optimizer_row;
  }

  // Runs a kernel, which begins with the list and its length, over all rows: launch<AdamWRows<T>>(lr, ..).
  template <class Kernel, class... Values> void launch(Values... values) const {
    for_rows(device_, Kernel{list_.data(), static_cast<int64_t>(list_.size()), values...}, rows_, optimizer_row);
  }
  double squared_grads() const {
    std::vector<double> partial(static_cast<size_t>(rows_));
    launch<SquaredGradRows<T>>(partial.data());
    double total = 0;
    for (const double value : partial) total += value;
    return total;
  }
  // Those added as slots, in that order.
  const std::vector<const OptimizerSlot*>& slots() const { return slots_; }
  Device device() const { return device_; }

 private:
  static Array state_of(const OptimizerSlot& slot, size_t i) {
    return i < slot.state.size() ? slot.state[i].array : Array();
  }
  Device device_;
  std::vector<ParameterSegment<T>> list_;
  std::vector<const OptimizerSlot*> slots_;
  std::vector<Array> grads_;
  int64_t rows_ = 0;
};

// Names of the arrays that an optimizer keeps for a parameter.
using StateNames = std::function<std::vector<const char*>(const NamedParameter&)>;

// The slots of an optimizer, its count of steps, and what all optimizers do in a step.
class OptimizerSlots final {
 public:
  // `optimizer` begins the messages; `weight_decay` is that of parameters whose group has none.
  OptimizerSlots(const char* optimizer, std::vector<NamedParameter> parameters,
                 const std::vector<ParameterGroup>& groups, double weight_decay, const StateNames& names);

  int64_t steps() const { return steps_; }
  std::vector<NamedArray> state() const;
  void set_state(const std::vector<NamedArray>& arrays, int64_t steps);
  const std::vector<OptimizerSlot>& all() const { return slots_; }

  // One step: calls update(segments, factor) with the parameters that take part (Segments<float> or <double>) and the
  // factor of their gradients, which divides by `divisor` and clips; returns the norm before clipping.
  template <class Update> double step(double lr, double divisor, double clip, Update&& update) {
    check(lr >= 0 && divisor > 0, "{}: lr must not be negative and divisor positive, got {} and {}", optimizer_, lr,
          divisor);
    if (slots_.empty()) return 0;
    const Options kind = slots_[0].named.parameter.value().options();
    double length = 0;
    dispatch_parameter(kind.dtype, [&]<class T>(T) {
      Segments<T> segments(kind.device);
      for (const OptimizerSlot& slot : slots_)
        if (slot.takes_part()) segments.add(slot);
      length = std::sqrt(segments.squared_grads()) / divisor;
      check_finite(length);
      const double factor = clip > 0 && length > clip ? clip / length : 1;
      ++steps_;
      update(segments, T(factor / divisor));
    });
    finish();
    return length;
  }

 private:
  void check_finite(double length) const;
  void finish() const;

  const char* optimizer_;
  std::vector<OptimizerSlot> slots_;
  int64_t steps_ = 0;
};

// Device and dtype that all parameters share; throws std::invalid_argument where they don't, or where one comes twice
// or is not initialised. `op` begins the messages.
Options common_options(const char* op, const std::vector<NamedParameter>& parameters);

// Throws where `arrays` are not exactly those of `wanted`, by name, shape and dtype; otherwise copies them there.
void restore_state(const char* op, const std::vector<NamedArray>& wanted, const std::vector<NamedArray>& arrays);

}  // namespace moxie::nn
