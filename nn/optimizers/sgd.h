// SPDX-License-Identifier: Apache-2.0
// SGD: steps along the gradient, plain or with momentum.
#pragma once
#include "nn/optimizers/slots.h"

namespace moxie::nn {

struct SgdOptions {
  double lr = 0.1;
  double momentum = 0.9;    // 0: none, and nothing is kept
  bool nesterov = false;    // look ahead; needs momentum
  double weight_decay = 0;  // added to the gradient, g + weight_decay w, after clipping
  double clip = 1.0;        // largest global norm of the gradient; 0: no clipping
};

// Stochastic gradient descent as PyTorch's: g = gradient + weight_decay w, m = momentum m + g (m starts at 0, without
// dampening), w -= lr m, or lr (g + momentum m) for Nesterov's. It keeps "momentum", where there is one.
class Sgd final : public Optimizer {
 public:
  explicit Sgd(std::vector<NamedParameter> parameters, const SgdOptions& options = {},
               const std::vector<ParameterGroup>& groups = {});

  const SgdOptions& options() const { return options_; }
  const char* name() const override { return "sgd"; }
  double lr() const override { return options_.lr; }
  int64_t steps() const override { return slots_.steps(); }
  void advance(double lr) override { slots_.advance(rates(lr, slots_.steps() + 1)); }
  std::vector<NamedArray> state() const override { return slots_.state(); }
  void set_state(const std::vector<NamedArray>& arrays, int64_t steps) override { slots_.set_state(arrays, steps); }

 private:
  GradientNorm update(double lr, double divisor) override;
  Rates rates(double lr, int64_t step) const;
  SgdOptions options_;
  OptimizerSlots slots_;
};

}  // namespace moxie::nn
