// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizers/adam.h"

#include "core/kernels/optimizer/adam.h"

namespace moxie::nn {
namespace {

std::vector<const char*> moments(const NamedParameter&) { return {"mean", "variance"}; }

template <class Options> const Options& checked(const char* optimizer, const Options& options) {
  check(options.lr >= 0 && options.weight_decay >= 0 && options.epsilon > 0 && options.clip >= 0,
        "{}: lr, weight_decay and clip must not be negative and epsilon positive, got {}, {}, {}, {}", optimizer,
        options.lr, options.weight_decay, options.clip, options.epsilon);
  check(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
        "{}: betas must be in [0, 1), got {} and {}", optimizer, options.beta1, options.beta2);
  return options;
}

template <class Options> Rates rates_of(const Options& options, double lr, int64_t step) {
  const auto at = static_cast<double>(step);
  return {{lr, 1 - std::pow(options.beta1, at), 1 - std::pow(options.beta2, at)}};
}

template <class Kernel, class T, class Options>
void launch(const Segments<T>& segments, const Options& options, const StepRates<T>* rates, const T* factor) {
  segments.template launch<Kernel>(rates, T(options.beta1), T(options.beta2), T(options.epsilon), factor);
}

}  // namespace

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options,
             const std::vector<ParameterGroup>& groups)
    : options_(checked("AdamW", options)),
      slots_("AdamW", std::move(parameters), groups, options.weight_decay, moments) {}

Rates AdamW::rates(double lr, int64_t step) const { return rates_of(options_, lr, step); }

GradientNorm AdamW::update(double lr, double divisor) {
  return slots_.step(lr, divisor, options_.clip, [&]<class T>(const Segments<T>& segments, const T* factor) {
    launch<AdamWRows<T>>(segments, options_, slots_.rates_on_device<T>(rates(lr, slots_.steps())), factor);
  });
}

Adam::Adam(std::vector<NamedParameter> parameters, const AdamOptions& options,
           const std::vector<ParameterGroup>& groups)
    : options_(checked("Adam", options)),
      slots_("Adam", std::move(parameters), groups, options.weight_decay, moments) {}

Rates Adam::rates(double lr, int64_t step) const { return rates_of(options_, lr, step); }

GradientNorm Adam::update(double lr, double divisor) {
  return slots_.step(lr, divisor, options_.clip, [&]<class T>(const Segments<T>& segments, const T* factor) {
    launch<AdamRows<T>>(segments, options_, slots_.rates_on_device<T>(rates(lr, slots_.steps())), factor);
  });
}

}  // namespace moxie::nn
