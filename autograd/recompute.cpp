// SPDX-License-Identifier: Apache-2.0
#include "autograd/recompute.h"

#include "autograd/record.h"

namespace moxie {
namespace {

// Runs the segment again with its graph recorded, and its backward pass from dy.
void replay(const Segment& segment, const std::vector<Array>& values, std::span<const Array> dy, Grads& grads) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < values.size(); ++i) {
    inputs.emplace_back(values[i]);
    if (grads.needs(i)) inputs.back().set_requires_grad();
  }
  {
    const detail::EnableGrad guard;
    const uint64_t oldest = detail::next_node_id();
    const std::vector<Tensor> outputs = segment(inputs);
    check(outputs.size() == dy.size(), "recompute: the segment gave {} tensors, {} the first time", outputs.size(),
          dy.size());
    // One node that joins the outputs, so that the shared part of their graphs runs once.
    const Tensor join = record("recompute", Array::zeros({}), outputs, [&](std::span<const Array>, Grads& joined) {
      for (size_t i = 0; i < outputs.size(); ++i)
        if (joined.needs(i)) joined.give(i, dy[i]);
    });
    if (join.requires_grad()) detail::run_segment_backward(join.node(), Array::full({}, 1.0), oldest);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!grads.needs(i)) continue;
    const Array dx = inputs[i].grad();
    grads.give(i, dx.defined() ? dx : Array::zeros(values[i].shape(), values[i].options()));
  }
}

}  // namespace

std::vector<Tensor> recompute(const Segment& segment, const std::vector<Tensor>& inputs) {
  const OpRange range("recompute");
  std::vector<Array> values, outputs;
  std::vector<Tensor> constants;
  for (const Tensor& input : inputs) {
    values.push_back(input.value());
    constants.push_back(input.detach());
  }
  {
    const NoGrad guard;
    for (const Tensor& output : segment(constants)) outputs.push_back(output.value());
  }
  if (!grad_enabled()) return {outputs.begin(), outputs.end()};
  return detail::record_always(
      "recompute", outputs, inputs,
      [segment, values](std::span<const Array> dy, Grads& grads) { replay(segment, values, dy, grads); });
}

}  // namespace moxie
