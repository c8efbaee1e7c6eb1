// SPDX-License-Identifier: Apache-2.0
// Which ops hold the memory of a recorded graph.
#pragma once
#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace moxie {

// All bytes are those that the memory cache took (sizes rounded up, Storage::capacity), so that they add up to what
// memory_of(device) says, where the device is the root's: what lies elsewhere doesn't count. Memory that several arrays
// share counts once, for the op that made it.
struct MemoryReport {
  struct Row {
    std::string op;            // "leaf": parameters and other leaves; "constant": inputs without history
    int64_t count = 0;         // how many of them the graph has
    int64_t output_bytes = 0;  // their outputs that are still alive: kept by a rule, or held by the caller
    int64_t rule_bytes = 0;    // what their own rules keep beside: statistics, masks, indices, copies
    int64_t bytes() const { return output_bytes + rule_bytes; }
  };
  std::vector<Row> rows;       // those with most bytes first
  int64_t graph_bytes = 0;     // the sum of the rows
  int64_t gradient_bytes = 0;  // gradients of the graph's leaves, also memory kept for the next ones
  int64_t other_bytes = 0;     // everything else that lives there: optimizer state, data, other graphs
  int64_t live_bytes = 0;      // all of these together, memory_of(device).live_bytes
  int64_t peak_bytes = 0;      // memory_of(device).peak_bytes: the most at once since reset_peak_memory()

  // A table of the rows with shares, and the sums below it.
  std::string to_string() const;
};

// What the graph of `root` holds now. Right after the forward pass is when that is most.
MemoryReport memory_report(const Tensor& root);

}  // namespace moxie

// {} prints to_string().
template <> struct fmt::formatter<moxie::MemoryReport> : fmt::formatter<std::string> {
  auto format(const moxie::MemoryReport& report, fmt::format_context& context) const -> decltype(context.out());
};
