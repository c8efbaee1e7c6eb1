// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizers/lion.h"

#include "core/kernels/optimizer/lion.h"

namespace moxie::nn {
namespace {

const LionOptions& checked(const LionOptions& options) {
  check(options.lr >= 0 && options.weight_decay >= 0 && options.clip >= 0,
        "Lion: lr, weight_decay and clip must not be negative, got {}, {}, {}", options.lr, options.weight_decay,
        options.clip);
  check(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
        "Lion: betas must be in [0, 1), got {} and {}", options.beta1, options.beta2);
  return options;
}

}  // namespace

Lion::Lion(std::vector<NamedParameter> parameters, const LionOptions& options,
           const std::vector<ParameterGroup>& groups)
    : options_(checked(options)),
      slots_("Lion", std::move(parameters), groups, options.weight_decay,
             [](const NamedParameter&) { return std::vector<const char*>{"momentum"}; }) {}

Rates Lion::rates(double lr, int64_t) const { return {{lr}}; }

GradientNorm Lion::update(double lr, double divisor) {
  return slots_.step(lr, divisor, options_.clip, [&]<class T>(const Segments<T>& segments, const T* factor) {
    const StepRates<T>* at_step = slots_.rates_on_device<T>(rates(lr, slots_.steps()));
    segments.template launch<LionRows<T>>(at_step, T(options_.beta1), T(options_.beta2), factor);
  });
}

}  // namespace moxie::nn
