// SPDX-License-Identifier: Apache-2.0
#include "nn/step_graph.h"

#include "autograd/op_range.h"

namespace moxie::nn {

StepGraph::StepGraph(Device device, Optimizer& optimizer)
    : device_(device), optimizer_(optimizer), counter_(Array::zeros({1}, {Dtype::i32, device})) {}

const uint32_t* StepGraph::counter() const { return reinterpret_cast<const uint32_t*>(counter_.data<int32_t>()); }

void StepGraph::forget() {
  graph_ = {};
  done_ = 0;
}

GradientNorm StepGraph::step(uint32_t number, double lr, const std::function<void()>& passes, double divisor) {
  counter_.fill(static_cast<double>(static_cast<int32_t>(number)));
  const auto op_by_op = [&] {
    passes();
    norm_ = optimizer_.step(lr, divisor);
  };
  if (graph_.defined()) {
    optimizer_.advance(lr);
  } else if (device_.is_cpu() || done_ < steps_before) {
    ++done_;
    op_by_op();
    return norm_;
  } else {
    graph_ = Graph::record(device_, op_by_op);
  }
  const OpRange range("graph of a step");
  graph_.launch();
  return norm_.of_step(optimizer_.steps());
}

}  // namespace moxie::nn
