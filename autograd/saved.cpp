// SPDX-License-Identifier: Apache-2.0
#include "autograd/saved.h"

#include "autograd/anomaly.h"

namespace moxie::detail {
namespace {

void place(Node::Saved& saved, const std::vector<Array>& outputs, std::span<const Tensor> inputs) {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (saved.array.shares_storage_with(inputs[i].value())) {
      saved.of = Node::Saved::Of::input;
      saved.index = i;
      return;
    }
  for (size_t i = 0; i < outputs.size(); ++i)
    if (saved.array.shares_storage_with(outputs[i])) {
      saved.of = Node::Saved::Of::output;
      saved.index = i;
      return;
    }
}

}  // namespace

std::vector<Node::Saved> arrays_saved_by(const Backward& rule, const std::vector<Array>& outputs,
                                         std::span<const Tensor> inputs) {
  std::vector<Array> arrays;
  {
    const NoteCopies notes(arrays);
    const Backward copy = rule;
  }
  std::vector<Node::Saved> all;
  all.reserve(arrays.size());
  for (Array& array : arrays) {
    if (!array.defined()) continue;
    Node::Saved& saved = all.emplace_back();
    saved.array = std::move(array);
    saved.version = saved.array.storage()->version();
    if (anomaly_mode()) saved.checksum = checksum(saved.array);
    place(saved, outputs, inputs);
  }
  return all;
}

void check_unchanged(const Node& node, const std::vector<Node::Saved>& all) {
  for (const Node::Saved& saved : all) {
    const bool told = saved.array.storage()->version() != saved.version;
    if (!told && !(anomaly_mode() && saved.checksum && *saved.checksum != checksum(saved.array))) continue;
    throw_invalid_argument(
        fmt::format("backward of {}: {} was changed in place after the forward pass{}, so the gradient would be wrong; "
                    "call backward() first, or give the op a copy (x.clone())",
                    node.op, text_of(node, saved), told ? "" : ", without mark_changed()"));
  }
}

std::string text_of_input(const Node::Edge& edge, size_t i) {
  if (!edge.defined) return fmt::format("input {} (none)", i);
  const std::string name = edge.node == nullptr || edge.node->name.empty() ? "" : fmt::format("'{}' ", edge.node->name);
  return fmt::format("input {} {}{} {}", i, name, name_of(edge.dtype), edge.shape);
}

std::string text_of(const Node& node, const Node::Saved& saved) {
  if (saved.of == Node::Saved::Of::input) return text_of_input(node.inputs[saved.index], saved.index);
  const bool output = saved.of == Node::Saved::Of::output;
  return fmt::format("{} {} {}", output ? fmt::format("output {}", saved.index) : "a saved array",
                     name_of(saved.array.dtype()), saved.array.shape());
}

}  // namespace moxie::detail
