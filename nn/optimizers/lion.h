// SPDX-License-Identifier: Apache-2.0
// Lion: steps of exactly the learning rate's size in every element, from the sign of a momentum.
#pragma once
#include "nn/optimizers/slots.h"

namespace moxie::nn {

struct LionOptions {
  double lr = 1e-4;                  // the paper: 3 to 10 times smaller than AdamW's
  double beta1 = 0.9, beta2 = 0.99;  // of the direction, and of what is kept
  double weight_decay = 1;           // decoupled; the paper: 3 to 10 times larger than AdamW's, for the same product
  double clip = 1.0;                 // largest global norm of the gradient; 0: no clipping
};

// Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2): w -= lr (sign(b1 m + (1 - b1) g) + weight_decay w), then
// m = b2 m + (1 - b2) g. It keeps "momentum".
class Lion final : public Optimizer {
 public:
  explicit Lion(std::vector<NamedParameter> parameters, const LionOptions& options = {},
                const std::vector<ParameterGroup>& groups = {});

  const LionOptions& options() const { return options_; }
  const char* name() const override { return "lion"; }
  double lr() const override { return options_.lr; }
  int64_t steps() const override { return slots_.steps(); }
  void advance(double lr) override { slots_.advance(rates(lr, slots_.steps() + 1)); }
  std::vector<NamedArray> state() const override { return slots_.state(); }
  void set_state(const std::vector<NamedArray>& arrays, int64_t steps) override { slots_.set_state(arrays, steps); }

 private:
  GradientNorm update(double lr, double divisor) override;
  Rates rates(double lr, int64_t step) const;
  LionOptions options_;
  OptimizerSlots slots_;
};

}  // namespace moxie::nn
