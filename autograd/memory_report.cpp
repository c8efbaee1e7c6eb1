// SPDX-License-Identifier: Apache-2.0
#include "autograd/memory_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_set>

#include "autograd/describe.h"
#include "autograd/record.h"

namespace moxie {
namespace {

// Counts every storage on the device once, for the first who claims it.
class Count final {
 public:
  Count(const std::vector<const Node*>& nodes, Device device) : device_(device) {
    for (const Node* node : nodes) ++row(node->op).count;
    for (const Node* node : nodes)  // oldest first: who made it comes before who passes it on
      for (const Node::Output& output : node->outputs) {
        const std::shared_ptr<Storage> storage = output.storage.lock();
        if (storage != nullptr) row(node->op).output_bytes += claim(*storage);
      }
    for (const Node* node : nodes)
      for (const Node::Saved& saved : node->saved) add(*node, saved);
    for (const Node* node : nodes)
      if (node->is_leaf() && node->dy[0].defined()) gradient_bytes += claim(*node->dy[0].storage());
  }

  std::vector<MemoryReport::Row> rows() const {
    std::vector<MemoryReport::Row> all;
    for (const auto& [op, one] : rows_) all.push_back(one);
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.bytes() > b.bytes(); });
    return all;
  }
  int64_t gradient_bytes = 0;

 private:
  MemoryReport::Row& row(const std::string& op) {
    MemoryReport::Row& found = rows_[op];
    found.op = op;
    return found;
  }
  int64_t claim(const Storage& storage) {
    return storage.device() == device_ && claimed_.insert(&storage).second ? storage.capacity() : 0;
  }

  void add(const Node& node, const Node::Saved& saved) {
    const int64_t bytes = claim(*saved.array.storage());
    if (saved.of != Node::Saved::Of::input) {  // an output was claimed already
      row(node.op).rule_bytes += bytes;
      return;
    }
    if (bytes == 0) return;
    const Node* maker = node.inputs[saved.index].node.get();  // a leaf: this is a parameter's bf16 copy
    MemoryReport::Row& made = row(maker == nullptr ? "constant" : maker->op);
    made.output_bytes += bytes;
    if (maker == nullptr) ++made.count;
  }

  Device device_;
  std::map<std::string, MemoryReport::Row> rows_;
  std::unordered_set<const Storage*> claimed_;
};

}  // namespace

MemoryReport memory_report(const Tensor& root) {
  const Count count(detail::nodes_of(root), root.device());
  const MemoryStatistics memory = memory_of(root.device());
  MemoryReport report{.rows = count.rows(),
                      .gradient_bytes = count.gradient_bytes,
                      .live_bytes = memory.live_bytes,
                      .peak_bytes = memory.peak_bytes};
  for (const MemoryReport::Row& row : report.rows) report.graph_bytes += row.bytes();
  report.other_bytes = report.live_bytes - report.graph_bytes - report.gradient_bytes;
  return report;
}

std::string MemoryReport::to_string() const {
  size_t width = 9;  // of "gradients"
  for (const Row& row : rows) width = std::max(width, row.op.size());
  std::string text = fmt::format("{:<{}}  {:>6}  {:>10}  {:>10}  {:>10}  {:>6}\n", "op", width, "count", "outputs",
                                 "in rules", "total", "share");
  const double whole = static_cast<double>(std::max<int64_t>(live_bytes, 1));
  const auto share = [&](int64_t bytes) { return fmt::format("{:.1f}%", 100 * static_cast<double>(bytes) / whole); };
  for (const Row& row : rows)
    text += fmt::format("{:<{}}  {:>6}  {:>10}  {:>10}  {:>10}  {:>6}\n", row.op, width, row.count,
                        text_of_bytes(row.output_bytes), text_of_bytes(row.rule_bytes), text_of_bytes(row.bytes()),
                        share(row.bytes()));
  const auto sum = [&](const char* name, int64_t bytes) {
    text += fmt::format("{:<{}}  {:>44}  {:>6}\n", name, width, text_of_bytes(bytes), share(bytes));
  };
  sum("graph", graph_bytes);
  sum("gradients", gradient_bytes);
  sum("other", other_bytes);
  sum("live", live_bytes);
  sum("peak", peak_bytes);
  return text;
}

}  // namespace moxie

auto fmt::formatter<moxie::MemoryReport>::format(const moxie::MemoryReport& report, fmt::format_context& context) const
    -> decltype(context.out()) {
  return fmt::formatter<std::string>::format(report.to_string(), context);
}
