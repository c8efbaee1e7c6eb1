// SPDX-License-Identifier: Apache-2.0
// What optimizers are made of: their parameters with what they keep for each, and the frame of a step.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "autograd/op_range.h"
#include "autograd/profile.h"
#include "core/graph.h"
#include "core/kernels/optimizer/segments.h"
#include "core/launch.h"
#include "core/reduce.h"
#include "nn/optimizers/interface.h"
#include "nn/optimizers/uploaded_list.h"

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
  Segments(Device where, UploadedList& uploaded) : device_(where), uploaded_(uploaded) {}
  void add(const OptimizerSlot& slot) {
    const Parameter& parameter = slot.named.parameter;
    grads_.push_back(parameter.grad());  // keeps it alive
    add(parameter.value(), grads_.back(), state_of(slot, 0), state_of(slot, 1), slot.lr_scale, slot.weight_decay,
        parameter.copy());
    slots_.push_back(&slot);
  }
  // Undefined arrays become null pointers.
  void add(const Array& value, const Array& grad, const Array& first, const Array& second, double lr_scale,
           double decay, const Array& copy = {}) {
    const auto pointer = [](const Array& array) { return array.defined() ? array.data<T>() : nullptr; };
    list_.push_back({pointer(value), pointer(grad), pointer(first), pointer(second),
                     copy.defined() ? copy.data<bf16>() : nullptr, value.numel(), rows_, static_cast<T>(lr_scale),
                     static_cast<T>(decay)});
    rows_ += (value.numel() + optimizer_row - 1) / optimizer_row;
  }

  // Runs a kernel, which begins with the list and its length, over all rows: launch<AdamWRows<T>>(lr, ..).
  template <class Kernel, class... Values> void launch(Values... values) const {
    const void* list = uploaded_.on(device_, std::as_bytes(std::span(list_)));
    const Kernel kernel{static_cast<const ParameterSegment<T>*>(list), static_cast<int64_t>(list_.size()), values...};
    for_rows(device_, kernel, rows_, optimizer_row);
  }
  // The sum of all squared gradients, one number in f64 on their device.
  Array squared_grads() const {
    const Array partial = Array::empty({rows_}, {Dtype::f64, device_});
    launch<SquaredGradRows<T>>(partial.data<double>());
    return reduce_sum(partial, 1, rows_, 1);
  }
  // The gradients of those added as slots.
  const std::vector<Array>& grads() const { return grads_; }
  // Those added as slots, in that order.
  const std::vector<const OptimizerSlot*>& slots() const { return slots_; }
  Device device() const { return device_; }

 private:
  static Array state_of(const OptimizerSlot& slot, size_t i) {
    return i < slot.state.size() ? slot.state[i].array : Array();
  }
  Device device_;
  UploadedList& uploaded_;
  std::vector<ParameterSegment<T>> list_;
  std::vector<const OptimizerSlot*> slots_;
  std::vector<Array> grads_;
  int64_t rows_ = 0;
};

// Names of the arrays that an optimizer keeps for a parameter.
using StateNames = std::function<std::vector<const char*>(const NamedParameter&)>;

// What a step's kernels read, for each kind of kernel that an optimizer has.
using Rates = std::vector<StepRates<double>>;

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

  // One step: calls update(segments, factor) with the parameters that take part (Segments<float> or <double>) and,
  // on their device, the factor of their gradients, which divides by `divisor` and clips, or NaN where the kernels must
  // change nothing; returns the norm before clipping. Waits for no device. Where a graph is being recorded, the
  // gradients that it uses are kept until the next one.
  template <class Update> GradientNorm step(double lr, double divisor, double clip, Update&& update) {
    check(lr >= 0 && divisor > 0, "{}: lr must not be negative and divisor positive, got {} and {}", optimizer_, lr,
          divisor);
    if (slots_.empty()) return {};
    const OpRange range(optimizer_);
    const Options kind = slots_[0].named.parameter.value().options();
    const GradientNorm norm(optimizer_, steps_, Array::empty({1}, {Dtype::f64, kind.device}));
    dispatch_parameter(kind.dtype, [&]<class T>(T) {
      Segments<T> segments(kind.device, uploaded_);
      for (const OptimizerSlot& slot : slots_)
        if (slot.takes_part()) segments.add(slot);
      if (is_recording(kind.device)) recorded_grads_ = segments.grads();
      const Array total = segments.squared_grads(), factor = Array::empty({1}, kind);
      const ClipFactor<T> kernel{total.data<double>(), norm.array().template data<double>(), factor.data<T>(), divisor,
                                 clip};
      for_rows(kind.device, kernel, 1, 1);
      if (kind.device.is_cpu()) norm.value();  // throws before anything changes
      ++steps_;
      update(segments, static_cast<const T*>(factor.data<T>()));
    });
    finish();
    Profiler::mark(optimizer_);
    return norm;
  }

  // In the parameters' dtype and on their device, until the next call.
  template <class T> const StepRates<T>* rates_on_device(const Rates& rates) {
    std::vector<StepRates<T>> numbers;
    for (const StepRates<double>& r : rates) numbers.push_back({T(r.lr), T(r.correction1), T(r.correction2)});
    return static_cast<const StepRates<T>*>(
        rates_.on(slots_[0].named.parameter.value().device(), std::as_bytes(std::span(numbers))));
  }
  // What a step does beside its kernels, which a graph repeats: sends them their rates, counts, and marks the
  // parameters as changed.
  void advance(const Rates& rates);

 private:
  void finish() const;

  const char* optimizer_;
  std::vector<OptimizerSlot> slots_;
  UploadedList uploaded_;
  UploadedNumbers rates_;
  std::vector<Array> recorded_grads_;
  int64_t steps_ = 0;
};

// Device and dtype that all parameters share; throws std::invalid_argument where they don't, or where one comes twice
// or is not initialised. `op` begins the messages.
Options common_options(const char* op, const std::vector<NamedParameter>& parameters);

// Throws where `arrays` are not exactly those of `wanted`, by name, shape and dtype; otherwise copies them there.
void restore_state(const char* op, const std::vector<NamedArray>& wanted, const std::vector<NamedArray>& arrays);

}  // namespace moxie::nn
