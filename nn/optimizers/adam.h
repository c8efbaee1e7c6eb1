// SPDX-License-Identifier: Apache-2.0
// AdamW and Adam: steps of about the learning rate's size in every element, from the first two moments of the gradient.
#pragma once
#include "nn/optimizers/slots.h"

namespace moxie::nn {

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // decoupled; applies to the parameters that decay (not norms, biases, embeddings)
  double clip = 1.0;          // largest global norm of the gradient; 0: no clipping
};

// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101): m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2,
// w -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + weight_decay w). It keeps "mean" and "variance".
class AdamW final : public Optimizer {
 public:
  explicit AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options = {},
                 const std::vector<ParameterGroup>& groups = {});

  const AdamWOptions& options() const { return options_; }
  const char* name() const override { return "adamw"; }
  double lr() const override { return options_.lr; }
  int64_t steps() const override { return slots_.steps(); }
  void advance(double lr) override { slots_.advance(rates(lr, slots_.steps() + 1)); }
  std::vector<NamedArray> state() const override { return slots_.state(); }
  void set_state(const std::vector<NamedArray>& arrays, int64_t steps) override { slots_.set_state(arrays, steps); }

 private:
  GradientNorm update(double lr, double divisor) override;
  Rates rates(double lr, int64_t step) const;
  AdamWOptions options_;
  OptimizerSlots slots_;
};

struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  // added to the gradient, g + weight_decay w, after clipping
  double clip = 1.0;        // largest global norm of the gradient; 0: no clipping
};

// Adam (Kingma & Ba 2015, arXiv 1412.6980), with weight decay as L2 regularisation inside the gradient.
class Adam final : public Optimizer {
 public:
  explicit Adam(std::vector<NamedParameter> parameters, const AdamOptions& options = {},
                const std::vector<ParameterGroup>& groups = {});

  const AdamOptions& options() const { return options_; }
  const char* name() const override { return "adam"; }
  double lr() const override { return options_.lr; }
  int64_t steps() const override { return slots_.steps(); }
  void advance(double lr) override { slots_.advance(rates(lr, slots_.steps() + 1)); }
  std::vector<NamedArray> state() const override { return slots_.state(); }
  void set_state(const std::vector<NamedArray>& arrays, int64_t steps) override { slots_.set_state(arrays, steps); }

 private:
  GradientNorm update(double lr, double divisor) override;
  Rates rates(double lr, int64_t step) const;
  AdamOptions options_;
  OptimizerSlots slots_;
};

}  // namespace moxie::nn
