// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizers/sgd.h"

#include "core/kernels/optimizer/sgd.h"

namespace moxie::nn {
namespace {

const SgdOptions& checked(const SgdOptions& options) {
  check(options.lr >= 0 && options.weight_decay >= 0 && options.clip >= 0,
        "Sgd: lr, weight_decay and clip must not be negative, got {}, {}, {}", options.lr, options.weight_decay,
        options.clip);
  check(options.momentum >= 0 && options.momentum < 1, "Sgd: momentum must be in [0, 1), got {}", options.momentum);
  check(!options.nesterov || options.momentum > 0, "Sgd: nesterov needs a momentum above 0");
  return options;
}

}  // namespace

Sgd::Sgd(std::vector<NamedParameter> parameters, const SgdOptions& options, const std::vector<ParameterGroup>& groups)
    : options_(checked(options)),
      slots_("Sgd", std::move(parameters), groups, options.weight_decay, [&](const NamedParameter&) {
        return options.momentum > 0 ? std::vector<const char*>{"momentum"} : std::vector<const char*>{};
      }) {}

Rates Sgd::rates(double lr, int64_t) const { return {{lr}}; }

GradientNorm Sgd::update(double lr, double divisor) {
  return slots_.step(lr, divisor, options_.clip, [&]<class T>(const Segments<T>& segments, const T* factor) {
    const StepRates<T>* at_step = slots_.rates_on_device<T>(rates(lr, slots_.steps()));
    segments.template launch<SgdRows<T>>(at_step, T(options_.momentum), factor, options_.nesterov);
  });
}

}  // namespace moxie::nn
