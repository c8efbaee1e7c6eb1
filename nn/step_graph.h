// SPDX-License-Identifier: Apache-2.0
// Training steps that a GPU repeats as one CUDA graph, so that the program doesn't have to ask for every op again.
#pragma once
#include <functional>
#include <vector>

#include "core/graph.h"
#include "nn/optimizers/interface.h"

namespace moxie::nn {

// Makes whole training steps: forward, backward, clipping, the optimizer. On a GPU the first two are done op by op, the
// third is recorded, and from then on each is one launch, equal to the bit to the steps op by op. On the CPU every step
// is done op by op.
//
//     nn::StepGraph steps(device, optimizer);
//     const nn::Context context{.training = true, .seed = seed, .step_at = steps.counter()};
//     for (uint32_t i = 0; i < count; ++i) {
//       tokens.copy_from(..), targets.copy_from(..);
//       steps.step(i, lr, [&] { loss = model.loss(tokens, targets, context), loss.backward(); });
//     }
//
// What the closure reads must lie in the same arrays in every step, and the model, the optimizer and those arrays must
// outlive the steps. The closure's results, such as `loss`, are those of the last step: copy what shall stay
// (Array::clone). Nothing may depend on the host's numbers: what a recording can't have throws (core/graph.h).
class StepGraph final {
 public:
  StepGraph(Device device, Optimizer& optimizer);
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // Where the number of the step is in the device's memory, for Context::step_at.
  const uint32_t* counter() const;
  // One step: `passes` runs the forward and backward passes, then the optimizer makes its step with `lr`, whose
  // gradients are divided by `divisor` (the same in every step). Returns what Optimizer::step does.
  GradientNorm step(uint32_t number, double lr, const std::function<void()>& passes, double divisor = 1);
  // Records anew, after two steps op by op: where the model or the shapes have changed.
  void forget();
  // Whether steps are launches of a graph by now.
  bool recorded() const { return graph_.defined(); }

 private:
  static constexpr int steps_before = 2;  // in which libraries are loaded, gradients get memory, lists are uploaded

  Device device_;
  Optimizer& optimizer_;
  Array counter_;  // [1] i32
  Graph graph_;
  GradientNorm norm_;  // the recorded one
  int done_ = 0;
};

}  // namespace moxie::nn
