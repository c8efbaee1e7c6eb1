// SPDX-License-Identifier: Apache-2.0
#include "autograd/anomaly.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>

#include "autograd/saved.h"
#include "core/finite.h"
#include "core/launch.h"

namespace moxie {
namespace {

constinit thread_local bool looking = false;
constinit thread_local AnomalyOptions how;

constexpr int64_t chunk = 16 * 1024;  // elements, or 8-byte words, that one thread reads at a time

int64_t chunks_of(int64_t n) { return (n + chunk - 1) / chunk; }

// NaN only, or NaN and infinities. x - x is NaN for both.
template <bool nan_only, class V> bool is_bad(V x) { return nan_only ? x != x : !is_finite(x); }

template <bool nan_only, class T> int64_t first_bad(const T* x, int64_t n) {
  std::vector<int64_t> first(static_cast<size_t>(chunks_of(n)), -1);
  parallel_for(chunks_of(n), n >= parallel_threshold, [&](int64_t c) {
    const int64_t begin = c * chunk, end = std::min(n, begin + chunk);
    int bad = 0;
#pragma omp simd reduction(| : bad)
    for (int64_t i = begin; i < end; ++i) bad |= is_bad<nan_only>(Accumulator<T>(x[i])) ? 1 : 0;
    if (bad == 0) return;
    int64_t i = begin;
    while (!is_bad<nan_only>(Accumulator<T>(x[i]))) ++i;
    first[static_cast<size_t>(c)] = i;
  });
  const auto found = std::find_if(first.begin(), first.end(), [](int64_t i) { return i >= 0; });
  return found == first.end() ? -1 : *found;
}

double element(const Array& x, int64_t i) {
  const Array host = x.to(Device::cpu());
  double value = 0;
  dispatch(x.dtype(), [&]<class T>(T) { value = static_cast<double>(host.data<T>()[i]); });
  return value;
}

std::string text_of_value(double value) { return value != value ? "nan" : value > 0 ? "inf" : "-inf"; }

// "nan at element 7, [1, 3]"
std::string text_of_place(const Array& x, int64_t i) {
  std::vector<int64_t> index;
  for (int64_t dim = 0; dim < x.shape().rank(); ++dim)
    index.push_back(i / x.shape().product(dim + 1, x.shape().rank()) % x.shape()[dim]);
  return fmt::format("{} at element {}, [{}]", text_of_value(element(x, i)), i, fmt::join(index, ", "));
}

std::string text_of_state(const Array& x, int64_t bad) {
  if (!is_float(x.dtype())) return "integers";
  return bad < 0 ? "finite" : "has " + text_of_place(x, bad);
}

struct Hint {
  std::string_view op;
  const char* forward;
  const char* backward;
};

constexpr Hint hints[] = {
    {"div", "a divisor is 0 or tiny: add an epsilon to it", "a divisor is 0 or tiny: add an epsilon to it"},
    {"log", "log needs numbers above 0: add an epsilon, or use log_softmax for the log of a softmax",
     "the slope of log is infinite at 0: add an epsilon, or use log_softmax for the log of a softmax"},
    {"sqrt", "sqrt needs numbers from 0 up", "the slope of sqrt is infinite at 0: add an epsilon inside the root"},
    {"exp", "exp overflows above 88 (f64: 709): subtract the maximum first, as softmax and logsumexp do",
     "exp overflows above 88 (f64: 709): subtract the maximum first, as softmax and logsumexp do"},
};

const char* hint(std::string_view op, bool forward) {
  for (const Hint& known : hints)
    if (known.op == op) return forward ? known.forward : known.backward;
  return forward ? "the numbers grew too large: lower the learning rate, or normalise the inputs"
                 : "the gradient grew too large: lower the learning rate, clip the gradient or scale the loss down";
}

constexpr const char* came_in =
    "it came in with the inputs: look at the data, at the parameters, and at what ran outside of anomaly mode";

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

std::string shapes_of(const Node& node) {
  std::vector<std::string> inputs, outputs;
  for (size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(detail::text_of_input(node.inputs[i], i));
  for (const Node::Output& output : node.outputs)
    outputs.push_back(fmt::format("{} {}", name_of(output.options.dtype), output.shape));
  return fmt::format("{} -> {}", fmt::join(inputs, ", "), fmt::join(outputs, ", "));
}

std::string name_in_text(const Node& leaf) { return leaf.name.empty() ? "a leaf" : fmt::format("'{}'", leaf.name); }

}  // namespace

bool anomaly_mode() { return looking; }
AnomalyMode::AnomalyMode(AnomalyOptions options) : before_(looking), options_before_(how) {
  looking = true;
  how = options;
}
AnomalyMode::~AnomalyMode() {
  looking = before_;
  how = options_before_;
}

int64_t first_non_finite(const Array& x, AnomalyOptions options) {
  if (!x.defined() || !is_float(x.dtype())) return -1;
  const Array host = x.to(Device::cpu());
  return dispatch_float("first_non_finite", x.dtype(), [&]<class T>(T) {
    const T* values = host.data<T>();
    return options.allow_infinity ? first_bad<true>(values, x.numel()) : first_bad<false>(values, x.numel());
  });
}

void detail::check_forward(const char* op, std::span<const Array> outputs, std::span<const Tensor> inputs) {
  for (size_t k = 0; k < outputs.size(); ++k) {
    const int64_t bad = first_non_finite(outputs[k], how);
    if (bad < 0) continue;
    bool all_finite = true;
    std::vector<std::string> texts;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Node::Edge edge{inputs[i].node(), 0, inputs[i].dtype(), inputs[i].shape(), inputs[i].defined()};
      texts.push_back(text_of_input(edge, i));
      if (!edge.defined) continue;
      const int64_t bad_input = first_non_finite(inputs[i].value(), how);
      all_finite = all_finite && bad_input < 0;
      texts.back() += fmt::format(": {}", text_of_state(inputs[i].value(), bad_input));
    }
    fail(fmt::format("anomaly in forward of {}: output {} {} {} has {}; {}; {}", op, k, name_of(outputs[k].dtype()),
                     outputs[k].shape(), text_of_place(outputs[k], bad), fmt::join(texts, ", "),
                     all_finite ? hint(op, true) : came_in));
  }
}

void detail::check_backward(const Node& node, const std::vector<Node::Saved>& saved) {
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const Node::Edge& edge = node.inputs[i];
    if (edge.node == nullptr) continue;
    const Array& gradient = edge.node->dy[static_cast<size_t>(edge.output)];
    if (!gradient.defined() || (edge.node->is_leaf() && !edge.node->has_grad)) continue;
    const int64_t bad = first_non_finite(gradient, how);
    if (bad < 0) continue;
    bool all_finite = true;
    std::vector<std::string> texts{"dy: finite"};  // otherwise the rule before would have thrown
    for (const Node::Saved& one : saved) {
      const int64_t bad_saved = first_non_finite(one.array, how);
      all_finite = all_finite && bad_saved < 0;
      texts.push_back(fmt::format("{}: {}", text_of(node, one), text_of_state(one.array, bad_saved)));
    }
    fail(fmt::format("anomaly in backward of {}: the gradient of {} has {}; forward shapes {}; {}; {}", node.op,
                     text_of_input(edge, i), text_of_place(gradient, bad), shapes_of(node), fmt::join(texts, ", "),
                     all_finite ? hint(node.op, false) : came_in));
  }
}

void detail::check_cotangent(const Node& root, const Array& cotangent) {
  const int64_t bad = first_non_finite(cotangent, how);
  if (bad >= 0)
    fail(
        fmt::format("anomaly in backward: the cotangent of {} {} {} has {}; the gradient that backward() was given "
                    "must be finite",
                    root.op, name_of(cotangent.dtype()), cotangent.shape(), text_of_place(cotangent, bad)));
}

void detail::check_kept_gradients(std::span<const std::shared_ptr<Node>> order) {
  std::set<const Node*> seen;
  for (const std::shared_ptr<Node>& node : order)
    for (const Node::Edge& edge : node->inputs) {
      if (edge.node == nullptr || !edge.node->is_leaf() || !edge.node->has_grad) continue;
      if (!seen.insert(edge.node.get()).second) continue;
      const Array& gradient = edge.node->dy[0];
      const int64_t bad = first_non_finite(gradient, how);
      if (bad >= 0)
        fail(fmt::format(
            "anomaly in backward: the gradient that {} {} {} kept from an earlier pass has {}; clear it "
            "with clear_grad(), or run that pass in anomaly mode too",
            name_in_text(*edge.node), name_of(gradient.dtype()), gradient.shape(), text_of_place(gradient, bad)));
    }
}

// Words times odd numbers that depend on their place, added up: chunk by chunk, so that threads may share the work.
uint64_t detail::checksum(const Array& x) {
  const Array host = x.to(Device::cpu());
  const int64_t words = host.bytes() / 8;
  const std::byte* data = host.raw();
  std::vector<uint64_t> sums(static_cast<size_t>(chunks_of(words)) + 1);
  parallel_for(chunks_of(words), words >= parallel_threshold, [&](int64_t c) {
    uint64_t sum = 0;
    for (int64_t i = c * chunk; i < std::min(words, (c + 1) * chunk); ++i) {
      uint64_t word = 0;
      std::memcpy(&word, data + 8 * i, 8);
      sum += (word ^ (word >> 29)) * (2 * static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u + 0xBF58476D1CE4E5B9u);
    }
    sums[static_cast<size_t>(c)] = sum;
  });
  uint64_t rest = 0;
  if (host.bytes() > 8 * words) std::memcpy(&rest, data + 8 * words, static_cast<size_t>(host.bytes() - 8 * words));
  uint64_t total = rest * 0x94D049BB133111EBu;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace moxie
