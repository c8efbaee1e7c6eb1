// SPDX-License-Identifier: Apache-2.0
// Every op is a range for profilers, forward and backward.
#pragma once
#include <doctest/doctest.h>

#include <set>
#include <string>
#include <vector>

#include "autograd/op_range.h"
#include "autograd/profile.h"

namespace moxie::testing {

// Notes which ranges there were, and which are open.
struct Ranges final : RangeListener {
  std::set<std::string> names;
  std::vector<std::string> open;
  void begin(const std::string& name) override {
    names.insert(name);
    open.push_back(name);
  }
  void end() override { open.pop_back(); }
};

// Runs `work`, and expects a range of each op that the engine saw.
template <class Work> void check_ranges(const Work& work) {
  Ranges ranges;
  const Profiler profiler;
  {
    const OpRanges guard(ranges);
    work();
  }
  CHECK(ranges.open.empty());
  for (const Profiler::Row& row : profiler.rows()) {
    INFO("no range has the name ", row.name);
    CHECK(ranges.names.contains(row.name));
  }
}

}  // namespace moxie::testing
