// SPDX-License-Identifier: Apache-2.0
// Exponential moving averages of weights, which often validate better than the weights themselves.
#pragma once
#include "nn/module.h"
#include "nn/optimizers/uploaded_list.h"

namespace moxie::nn {

struct EmaOptions {
  double decay = 0.999;  // how much of the average an update keeps; about the last 1 / (1 - decay) steps count
  bool warmup = true;    // the first updates keep less: update t = 0, 1, .. at most (1 + t) / (10 + t)
};

// Keeps average = decay average + (1 - decay) weight for every parameter, in the parameter's dtype; the averages begin
// as the weights are when it is made. The warm-up is that of TensorFlow's ExponentialMovingAverage.
class Ema final {
 public:
  // Takes handles on the parameters of a module, nn::parameters(model), which share one dtype and device. Throws
  // std::invalid_argument where they don't, and for a decay outside [0, 1).
  explicit Ema(std::vector<NamedParameter> parameters, const EmaOptions& options = {});

  // Takes the weights into the average; call it after each step of the optimizer.
  void update();
  // Exchanges weights and averages: once before an evaluation, once after it. To the bit.
  void swap();
  bool swapped() const { return swapped_; }
  int64_t updates() const { return updates_; }
  // The decay of the next update.
  double decay() const;
  const EmaOptions& options() const { return options_; }

  // The averages by the parameters' names, for a checkpoint; and their way back, which throws std::invalid_argument and
  // changes nothing where a tensor is missing, unknown, or has another shape or dtype. Not while swapped.
  std::vector<NamedArray> state() const;
  void set_state(const std::vector<NamedArray>& arrays, int64_t updates);

 private:
  std::vector<NamedParameter> parameters_;
  std::vector<Array> averages_;
  UploadedList uploaded_;
  EmaOptions options_;
  int64_t updates_ = 0;
  bool swapped_ = false;
};

// While it lives, the model has the averaged weights.
class EmaScope final {
 public:
  explicit EmaScope(Ema& ema) : ema_(ema) { ema_.swap(); }
  ~EmaScope() { ema_.swap(); }
  EmaScope(const EmaScope&) = delete;
  EmaScope& operator=(const EmaScope&) = delete;

 private:
  Ema& ema_;
};

}  // namespace moxie::nn
