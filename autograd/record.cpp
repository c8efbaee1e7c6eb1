// SPDX-License-Identifier: Apache-2.0
#include "autograd/record.h"

#include <algorithm>

#include "autograd/anomaly.h"
#include "autograd/profile.h"
#include "autograd/saved.h"
#include "core/kernels/elementwise/accumulate.h"
#include "core/launch.h"

namespace moxie {
namespace {

thread_local bool recording = true;
std::atomic<uint64_t> next_id{1};
std::atomic<uint64_t> next_visit{1};

void accumulate(const Array& into, const Array& x) {
  dispatch_float("backward", into.dtype(), [&]<class T>(T) {
    dispatch_float("backward", x.dtype(), [&]<class From>(From) {
      const Accumulate<From, T> kernel{x.data<From>(), into.data<T>(), into.numel()};
      for_rows(into.device(), kernel, elementwise_rows(into.numel()), elementwise_row);
    });
  });
}

bool any_requires_grad(std::span<const Tensor> inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor& input) { return input.requires_grad(); });
}

}  // namespace

bool grad_enabled() { return recording; }
NoGrad::NoGrad() : before_(recording) { recording = false; }
NoGrad::~NoGrad() { recording = before_; }
detail::EnableGrad::EnableGrad() : before_(recording) { recording = true; }
detail::EnableGrad::~EnableGrad() { recording = before_; }

Node::Node(const char* op_name, std::vector<Edge> edges, std::vector<Output> results, Backward rule)
    : op(op_name),
      id(next_id.fetch_add(1, std::memory_order_relaxed)),
      inputs(std::move(edges)),
      outputs(std::move(results)),
      backward(std::move(rule)),
      dy(outputs.size()) {}

// A chain of nodes is taken apart by a worklist: recursion would overflow the stack on a long one.
Node::~Node() {
  thread_local std::vector<std::shared_ptr<Node>>* worklist = nullptr;
  if (worklist != nullptr) {
    for (Edge& edge : inputs)
      if (edge.node) worklist->push_back(std::move(edge.node));
    return;
  }
  std::vector<std::shared_ptr<Node>> pending;
  worklist = &pending;
  backward = nullptr;  // a recomputed segment may hold tensors, whose graphs join the list
  for (Edge& edge : inputs)
    if (edge.node) pending.push_back(std::move(edge.node));
  while (!pending.empty()) {
    const std::shared_ptr<Node> node = std::move(pending.back());
    pending.pop_back();
  }
  worklist = nullptr;
}

std::shared_ptr<Node> Node::leaf(const Array& value) {
  auto node = std::make_shared<Node>(
      "leaf", std::vector<Edge>{}, std::vector<Output>{{value.shape(), value.options(), value.storage()}}, Backward{});
  node->leaf_ = true;
  return node;
}

bool Grads::needs(size_t i) const {
  check(i < node_.inputs.size(), "{}: the rule asks for input {} of {}; the first is 0", node_.op, i,
        node_.inputs.size());
  return node_.inputs[i].node != nullptr;
}

const Node::Edge& Grads::edge(size_t i) const {
  check(needs(i), "{}: input {} of {} needs no gradient; the rule has to ask needs() first", node_.op, i,
        node_.inputs.size());
  return node_.inputs[i];
}

Grads::Target Grads::into(size_t i) {
  const Node::Edge& from = edge(i);
  const Node::Output& output = from.node->outputs[static_cast<size_t>(from.output)];
  if (output.options.dtype == from.dtype) return into_wide(i);
  lent_.push_back({i, Array::empty(output.shape, {from.dtype, output.options.device})});
  return {lent_.back().array, false};
}

void Grads::finish() {
  for (const Lent& lent : lent_) give(lent.input, lent.array);
  lent_.clear();
}

Grads::Target Grads::into_wide(size_t i) {
  const Node::Edge& from = edge(i);
  Node& producer = *from.node;
  Array& slot = producer.dy[static_cast<size_t>(from.output)];
  const bool filled = producer.is_leaf() ? producer.has_grad : slot.defined();
  if (filled && !slot.unique()) slot = slot.clone();
  if (!filled && !(slot.defined() && slot.unique())) {
    const Node::Output& output = producer.outputs[static_cast<size_t>(from.output)];
    slot = Array::empty(output.shape, output.options);
  }
  if (producer.is_leaf()) producer.has_grad = true;
  return {slot, filled};
}

void Grads::give(size_t i, const Array& dx) {
  const Node::Edge& from = edge(i);
  Node& producer = *from.node;
  const Node::Output& output = producer.outputs[static_cast<size_t>(from.output)];
  check(dx.shape() == output.shape, "{}: gave a gradient of shape {} for input {} of shape {}", node_.op, dx.shape(), i,
        output.shape);
  Array& slot = producer.dy[static_cast<size_t>(from.output)];
  const bool filled = producer.is_leaf() ? producer.has_grad : slot.defined();
  if (filled) {
    if (!slot.unique()) slot = slot.clone();
    accumulate(slot, dx);
  } else {
    // A leaf keeps its gradient, and callers may change it: it must not share memory with another's.
    const bool copy = producer.is_leaf() && !dx.unique() && dx.dtype() == output.options.dtype;
    if (copy && slot.defined() && slot.unique())
      slot.copy_from(dx);
    else
      slot = copy ? dx.clone() : dx.to(output.options.dtype);
    if (producer.is_leaf()) producer.has_grad = true;
  }
}

std::vector<Tensor> detail::record_always(const char* op, const std::vector<Array>& outputs,
                                          std::span<const Tensor> inputs, Backward backward) {
  std::vector<Node::Edge> edges;
  edges.reserve(inputs.size());
  for (const Tensor& input : inputs)
    edges.push_back({input.node(), input.output(), input.dtype(), input.shape(), input.defined()});
  std::vector<Node::Output> results;
  results.reserve(outputs.size());
  for (const Array& output : outputs) results.push_back({output.shape(), output.options(), output.storage()});
  const auto node = std::make_shared<Node>(op, std::move(edges), std::move(results), std::move(backward));
  node->saved = detail::arrays_saved_by(node->backward, outputs, inputs);
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < outputs.size(); ++i) tensors.emplace_back(outputs[i], node, static_cast<int64_t>(i));
  return tensors;
}

std::vector<Tensor> record(const char* op, const std::vector<Array>& outputs, std::span<const Tensor> inputs,
                           Backward backward) {
  Profiler::mark(op, Profiler::Phase::forward);
  if (anomaly_mode()) [[unlikely]]
    detail::check_forward(op, outputs, inputs);
  if (recording && any_requires_grad(inputs)) return detail::record_always(op, outputs, inputs, std::move(backward));
  std::vector<Tensor> tensors;
  for (const Array& output : outputs) tensors.emplace_back(output);
  return tensors;
}

Tensor record(const char* op, const Array& y, std::span<const Tensor> inputs, Backward backward) {
  return record(op, std::vector<Array>{y}, inputs, std::move(backward))[0];
}

Tensor record(const char* op, const Array& y, std::initializer_list<Tensor> inputs, Backward backward) {
  return record(op, y, std::span<const Tensor>(inputs.begin(), inputs.size()), std::move(backward));
}

bool will_record(std::initializer_list<Tensor> inputs) {
  return recording && any_requires_grad({inputs.begin(), inputs.size()});
}

namespace {

// Every node that `root` was computed from, newest first.
std::vector<std::shared_ptr<Node>> reachable(const std::shared_ptr<Node>& root, uint64_t oldest) {
  const uint64_t visit = next_visit.fetch_add(1, std::memory_order_relaxed);
  std::vector<std::shared_ptr<Node>> order{root};
  root->visit = visit;
  for (size_t i = 0; i < order.size(); ++i) {
    check(!order[i]->used, "backward: the graph through {} was used by an earlier backward; run the forward pass again",
          order[i]->op);
    check(order[i]->id >= oldest, "recompute: the segment uses a result of {} from outside; make it one of the inputs",
          order[i]->op);
    for (size_t k = 0; k < order[i]->inputs.size(); ++k) {
      const std::shared_ptr<Node>& node = order[i]->inputs[k].node;
      if (node == nullptr || node->is_leaf() || node->visit == visit) continue;
      node->visit = visit;
      order.push_back(node);
    }
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a->id > b->id; });
  return order;
}

void run(Node& node) {
  std::vector<Array> dy = std::move(node.dy);
  node.dy.assign(node.outputs.size(), {});
  const Backward rule = std::move(node.backward);
  const std::vector<Node::Saved> saved = std::move(node.saved);
  node.backward = nullptr;
  node.saved.clear();
  node.used = true;
  if (std::none_of(dy.begin(), dy.end(), [](const Array& array) { return array.defined(); })) return;
  for (size_t i = 0; i < dy.size(); ++i)
    if (!dy[i].defined()) dy[i] = Array::zeros(node.outputs[i].shape, node.outputs[i].options);
  detail::check_unchanged(node, saved);
  const OpRange range(node.op, true);
  Grads grads(node);
  rule(dy, grads);
  grads.finish();
  Profiler::mark(node.op, Profiler::Phase::backward);
  if (anomaly_mode()) [[unlikely]]
    detail::check_backward(node, saved);
}

void run_from(const std::shared_ptr<Node>& root, int64_t output, const Array& cotangent, uint64_t oldest) {
  if (anomaly_mode()) [[unlikely]]
    detail::check_cotangent(*root, cotangent);
  if (root->is_leaf()) {
    Node sink("backward", {{root, 0, cotangent.dtype()}}, {}, {});
    Grads(sink).give(0, cotangent.clone());
    return;
  }
  std::vector<std::shared_ptr<Node>> order = reachable(root, oldest);
  if (anomaly_mode()) [[unlikely]]
    detail::check_kept_gradients(order);
  root->dy[static_cast<size_t>(output)] = cotangent;
  const NoGrad guard;
  try {
    for (std::shared_ptr<Node>& node : order) {
      run(*node);
      node->inputs.clear();
      node.reset();
    }
  } catch (...) {
    for (const std::shared_ptr<Node>& node : order)
      if (node) node->dy.assign(node->outputs.size(), {});
    throw;
  }
}

}  // namespace

void detail::run_backward(const std::shared_ptr<Node>& root, int64_t output, const Array& cotangent) {
  run_from(root, output, cotangent, 0);
}
void detail::run_segment_backward(const std::shared_ptr<Node>& root, const Array& cotangent, uint64_t oldest) {
  run_from(root, 0, cotangent, oldest);
}
uint64_t detail::next_node_id() { return next_id.load(std::memory_order_relaxed); }

}  // namespace moxie
