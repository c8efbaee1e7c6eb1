// SPDX-License-Identifier: Apache-2.0
#include "nn/ema.h"

#include <algorithm>

#include "core/kernels/optimizer/ema.h"
#include "nn/optimizers/slots.h"

namespace moxie::nn {
namespace {

// Runs Kernel<T> over weights and averages.
template <template <class> class Kernel, class... Values>
void launch(const std::vector<NamedParameter>& parameters, const std::vector<Array>& averages, UploadedList& uploaded,
            Values... values) {
  if (parameters.empty()) return;
  const Options kind = parameters[0].parameter.value().options();
  dispatch_parameter(kind.dtype, [&]<class T>(T) {
    Segments<T> segments(kind.device, uploaded);
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Array& value = parameters[i].parameter.value();
      check(value.options() == averages[i].options(), "Ema: '{}' was converted or moved; make a new Ema",
            parameters[i].name);
      if (value.numel() > 0) segments.add(value, {}, averages[i], {}, 1, 0);
    }
    segments.template launch<Kernel<T>>(T(values)...);
  });
}

}  // namespace

Ema::Ema(std::vector<NamedParameter> parameters, const EmaOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  check(options.decay >= 0 && options.decay < 1, "Ema: decay must be in [0, 1), got {}", options.decay);
  common_options("Ema", parameters_);
  for (const NamedParameter& named : parameters_) averages_.push_back(named.parameter.value().clone());
}

double Ema::decay() const {
  const auto t = static_cast<double>(updates_);
  return options_.warmup ? std::min(options_.decay, (1 + t) / (10 + t)) : options_.decay;
}

void Ema::update() {
  check(!swapped_, "Ema: the model has the averaged weights; swap them back before an update");
  launch<EmaRows>(parameters_, averages_, uploaded_, 1 - decay());
  ++updates_;
}

void Ema::swap() {
  launch<SwapRows>(parameters_, averages_, uploaded_);
  for (const NamedParameter& named : parameters_) named.parameter.refresh();
  swapped_ = !swapped_;
}

std::vector<NamedArray> Ema::state() const {
  check(!swapped_, "Ema: the model has the averaged weights; swap them back before saving");
  std::vector<NamedArray> arrays;
  for (size_t i = 0; i < parameters_.size(); ++i) arrays.push_back({parameters_[i].name, averages_[i]});
  return arrays;
}

void Ema::set_state(const std::vector<NamedArray>& arrays, int64_t updates) {
  check(updates >= 0, "Ema: updates must not be negative, got {}", updates);
  restore_state("Ema", state(), arrays);
  updates_ = updates;
}

}  // namespace moxie::nn
