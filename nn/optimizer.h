// SPDX-License-Identifier: Apache-2.0
// AdamW with clipping by the global norm: two passes over memory, one for the norm and one for the update.
#pragma once
#include <vector>

#include "nn/module.h"

namespace moxie::nn {

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // decoupled; applies to the parameters that decay (not norms, biases, embeddings)
  double clip = 1.0;          // largest global norm of the gradient; 0: no clipping
};

class AdamW final {
 public:
  // Takes handles on the parameters of a module, nn::parameters(model). All share one dtype (f32 or f64) and device.
  // Throws std::invalid_argument for options out of range.
  AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options = {});

  // Updates every parameter that has a gradient and isn't frozen, at learning rate `lr`, and clears the gradients.
  // Gradients are divided by `divisor` first (accumulation sums them). Returns their global norm before clipping.
  // Throws std::runtime_error, changing nothing, where the norm isn't finite.
  double step(double lr, double divisor = 1);
  double step() { return step(options_.lr); }

  int64_t steps() const { return steps_; }
  const AdamWOptions& options() const { return options_; }

  // The state for a checkpoint, "<name>.mean" and "<name>.variance" for every parameter; and its way back, which
  // throws std::invalid_argument and changes nothing where a tensor is missing or has another shape or dtype.
  std::vector<NamedArray> state() const;
  void set_state(const std::vector<NamedArray>& arrays, int64_t steps);

 private:
  struct Slot {
    NamedParameter named;
    Array mean, variance;
  };
  std::vector<Slot> slots_;
  AdamWOptions options_;
  int64_t steps_ = 0;
};

// The square root of the sum of all squared gradients, in fixed chunks: the same for any number of threads.
double grad_norm(const std::vector<NamedParameter>& parameters);

}  // namespace moxie::nn
