// SPDX-License-Identifier: Apache-2.0
// What all optimizers have in common: one interface, groups of parameters, clipping by the global norm.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nn/module.h"

namespace moxie::nn {

// Parameters with a learning rate or weight decay of their own. It takes the parameters that it names, and those for
// which `where` is true; or all that are in no other group.
struct ParameterGroup {
  std::string name;  // in messages
  std::vector<std::string> parameters = {};
  std::function<bool(const NamedParameter&)> where = {};
  bool rest = false;
  double lr_scale = 1;                      // factor of the learning rate
  std::optional<double> weight_decay = {};  // in place of the optimizer's; for the parameters that decay
};

// The global norm of a step's gradients before clipping. It stays on their device: reading it
// waits for the step.
class GradientNorm final {
 public:
  GradientNorm() = default;  // of no parameters: 0
  GradientNorm(const char* optimizer, int64_t steps, Array norm)
      : optimizer_(optimizer), steps_(steps), norm_(std::move(norm)) {}
  // Throws std::runtime_error where it isn't finite; the step changed nothing then.
  double value() const;
  operator double() const { return value(); }
  const Array& array() const { return norm_; }
  // A copy, as that of a graph's step, which is the optimizer's `steps`th.
  GradientNorm of_step(int64_t steps) const { return {optimizer_, steps - 1, norm_.clone()}; }

 private:
  const char* optimizer_ = "";
  int64_t steps_ = 0;
  Array norm_;  // [1], f64
};

// An optimizer holds handles on parameters, nn::parameters(model), and changes them in place. All of them share one
// dtype (f32 or f64) and device. Given groups, every parameter is in exactly one of them; without, all are alike.
// Constructors throw std::invalid_argument for options out of range, parameters that differ in dtype or device, and a
// parameter in no group or in two.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Updates every parameter that has a gradient and isn't frozen, at learning rate `lr`, and clears the gradients.
  // Gradients are divided by `divisor` first (accumulation sums them). Returns their global norm before clipping.
  // Where the norm isn't finite no parameter changes, and std::runtime_error is thrown: on the CPU at once, on a GPU,
  // for which nothing here waits, when the norm is read; the step counts as made then.
  GradientNorm step(double lr, double divisor = 1) { return update(lr, divisor); }
  // The same at the learning rate of the options.
  GradientNorm step() { return update(lr(), 1); }

  // What step(lr) does on the host, where a graph that has recorded it repeats the rest (nn/step_graph.h): counts the
  // step, and sends its kernels what depends on the step and on `lr`.
  virtual void advance(double lr) = 0;

  // Its name for options and files: "adamw", "adam", "sgd", "lion", "muon".
  virtual const char* name() const = 0;
  // The learning rate of its options.
  virtual double lr() const = 0;
  // How many steps it has made.
  virtual int64_t steps() const = 0;
  // What it keeps for a checkpoint, "<parameter>.<what>"; and its way back, which throws std::invalid_argument and
  // changes nothing where a tensor is missing, unknown, or has another shape or dtype.
  virtual std::vector<NamedArray> state() const = 0;
  virtual void set_state(const std::vector<NamedArray>& arrays, int64_t steps) = 0;

 private:
  virtual GradientNorm update(double lr, double divisor) = 0;
};

// The square root of the sum of all squared gradients, in fixed chunks: the same for any number of threads.
double grad_norm(const std::vector<NamedParameter>& parameters);

}  // namespace moxie::nn
