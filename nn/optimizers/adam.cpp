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

template <class Kernel, class T, class Options>
void launch(const Segments<T>& segments, const Options& options, double lr, int64_t steps, const T* factor) {
  const auto at = static_cast<double>(steps);
  segments.template launch<Kernel>(T(lr), T(options.beta1), T(options.beta2), T(options.epsilon),
                                   T(1 - std::pow(options.beta1, at)), T(1 - std::pow(options.beta2, at)), factor);
}

}  // namespace

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options,
             const std::vector<ParameterGroup>& groups)
    : options_(checked("AdamW", options)),
      slots_("AdamW", std::move(parameters), groups, options.weight_decay, moments) {}

GradientNorm AdamW::update(double lr, double divisor) {
  return slots_.step(lr, divisor, options_.clip, [&]<class T>(const Segments<T>& segments, const T* factor) {
    launch<AdamWRows<T>>(segments, options_, lr, slots_.steps(), factor);
  });
}

Adam::Adam(std::vector<NamedParameter> parameters, const AdamOptions& options,
           const std::vector<ParameterGroup>& groups)
    : options_(checked("Adam", options)),
      slots_("Adam", std::move(parameters), groups, options.weight_decay, moments) {}

GradientNorm Adam::update(double lr, double divisor) {
  return slots_.step(lr, divisor, options_.clip, [&]<class T>(const Segments<T>& segments, const T* factor) {
    launch<AdamRows<T>>(segments, options_, lr, slots_.steps(), factor);
  });
}

}  // namespace moxie::nn
