// SPDX-License-Identifier: Apache-2.0
#include "autograd/describe.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "autograd/record.h"

namespace moxie {
namespace {

class Graph final {
 public:
  explicit Graph(const Tensor& root) : nodes_(detail::nodes_of(root)) {
    for (size_t i = 0; i < nodes_.size(); ++i) number_[nodes_[i]] = i + 1;
  }
  const std::vector<const Node*>& nodes() const { return nodes_; }
  size_t number_of(const Node& node) const { return number_.at(&node); }

 private:
  std::vector<const Node*> nodes_;
  std::unordered_map<const Node*, size_t> number_;
};

std::string text_of(Dtype dtype, const Shape& shape) { return fmt::format("{} {}", name_of(dtype), shape); }

std::string outputs_of(const Node& node) {
  std::vector<std::string> texts;
  for (const Node::Output& output : node.outputs) texts.push_back(text_of(output.options.dtype, output.shape));
  return fmt::format("{}", fmt::join(texts, ", "));
}

// "#3", "#3.1" for the second output, "constant f32 [3]", "none"
std::string text_of(const Graph& graph, const Node::Edge& edge) {
  if (!edge.defined) return "none";
  if (edge.node == nullptr) return "constant " + text_of(edge.dtype, edge.shape);
  const size_t number = graph.number_of(*edge.node);
  if (edge.node->outputs.size() > 1) return fmt::format("#{}.{}", number, edge.output);
  const Dtype kept = edge.node->outputs[0].options.dtype;  // f32 for a parameter's bf16 copy
  return kept == edge.dtype ? fmt::format("#{}", number) : fmt::format("#{} as {}", number, name_of(edge.dtype));
}

std::string inputs_of(const Graph& graph, const Node& node) {
  if (node.is_leaf()) return node.name.empty() ? "" : fmt::format("'{}'", node.name);
  if (node.used) return "used up by backward";
  std::vector<std::string> texts;
  for (const Node::Edge& edge : node.inputs) texts.push_back(text_of(graph, edge));
  return fmt::format("{}", fmt::join(texts, ", "));
}

int64_t saved_bytes(const std::vector<const Node*>& nodes) {
  std::unordered_set<const Storage*> seen;
  int64_t total = 0;
  for (const Node* node : nodes)
    for (const Node::Saved& saved : node->saved)
      if (seen.insert(saved.array.storage().get()).second) total += saved.array.storage()->bytes();
  return total;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

std::string text_of_bytes(int64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto size = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (size < 1023.95) break;  // what would be printed as 1024.0
    size /= 1024;
    unit = larger;
  }
  return fmt::format("{:.1f} {}", size, unit);
}

int64_t detail::saved_bytes(const Node& node) {
  std::unordered_map<const Storage*, int64_t> most;
  for (const Node::Saved& saved : node.saved) {
    int64_t& bytes = most[saved.array.storage().get()];
    bytes = std::max(bytes, saved.array.bytes());
  }
  int64_t total = 0;
  for (const auto& [storage, bytes] : most) total += bytes;
  return total;
}

std::vector<const Node*> detail::nodes_of(const Tensor& root) {
  std::vector<const Node*> all;
  if (!root.requires_grad()) return all;
  std::unordered_set<const Node*> seen{root.node().get()};
  all.push_back(root.node().get());
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t k = 0; k < all[i]->inputs.size(); ++k) {
      const Node* node = all[i]->inputs[k].node.get();
      if (node != nullptr && seen.insert(node).second) all.push_back(node);
    }
  std::sort(all.begin(), all.end(), [](const Node* a, const Node* b) { return a->id < b->id; });
  return all;
}

std::string describe(const Tensor& root) {
  if (!root.defined()) return "undefined: no graph\n";
  if (!root.requires_grad()) return fmt::format("constant {}: no graph\n", text_of(root.dtype(), root.shape()));
  const Graph graph(root);
  std::vector<std::array<std::string, 5>> lines{{"#", "op", "output", "inputs", "saved"}};
  size_t leaves = 0;
  for (const Node* node : graph.nodes()) {
    leaves += node->is_leaf() ? 1 : 0;
    lines.push_back({std::to_string(graph.number_of(*node)), node->op, outputs_of(*node), inputs_of(graph, *node),
                     node->saved.empty() ? "" : text_of_bytes(detail::saved_bytes(*node))});
  }
  std::array<size_t, 5> width{};
  for (const auto& line : lines)
    for (size_t i = 0; i < line.size(); ++i) width[i] = std::max(width[i], line[i].size());
  std::string text;
  for (const auto& line : lines) {
    std::string row = fmt::format("{:>{}}  {:<{}}  {:<{}}  {:<{}}  {:>{}}", line[0], width[0], line[1], width[1],
                                  line[2], width[2], line[3], width[3], line[4], width[4]);
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + '\n';
  }
  return text + fmt::format("{} ops, {} leaves; backward keeps {}\n", graph.nodes().size() - leaves, leaves,
                            text_of_bytes(saved_bytes(graph.nodes())));
}

std::string describe_dot(const Tensor& root) {
  const Graph graph(root);
  std::string text =
      "digraph moxie {\n  rankdir=TB;\n  node [fontname=\"Helvetica\", fontsize=11, shape=box, style=rounded];\n"
      "  edge [fontname=\"Helvetica\", fontsize=9];\n";
  if (graph.nodes().empty())
    text +=
        fmt::format("  constant [label=\"{}\", style=dashed];\n",
                    root.defined() ? fmt::format("constant\\n{}", text_of(root.dtype(), root.shape())) : "undefined");
  for (const Node* node : graph.nodes()) {
    const size_t number = graph.number_of(*node);
    const std::string name = node->is_leaf() && !node->name.empty() ? escaped(node->name) : node->op;
    std::string label = fmt::format("{}\\n{}", name, outputs_of(*node));
    if (!node->saved.empty()) label += "\\nkeeps " + text_of_bytes(detail::saved_bytes(*node));
    if (node->used) label += "\\nused up by backward";
    text += fmt::format("  n{} [label=\"{}\"{}];\n", number, label, node->is_leaf() ? ", shape=ellipse" : "");
    for (size_t i = 0; i < node->inputs.size(); ++i) {
      const Node::Edge& edge = node->inputs[i];
      if (!edge.defined) continue;
      const std::string shape = text_of(edge.dtype, edge.shape);
      if (edge.node != nullptr) {
        text += fmt::format("  n{} -> n{} [label=\"{}\"];\n", graph.number_of(*edge.node), number, shape);
        continue;
      }
      text += fmt::format("  c{}_{} [label=\"constant\\n{}\", style=dashed];\n", number, i, shape);
      text += fmt::format("  c{}_{} -> n{} [style=dashed];\n", number, i, number);
    }
  }
  return text + "}\n";
}

}  // namespace moxie
