// SPDX-License-Identifier: Apache-2.0
#include "core/recorded_memory.h"

#include <doctest/doctest.h>

#include <algorithm>

using moxie::cuda::RecordedMemory;

namespace {

std::byte memory[8];
using Blocks = std::vector<std::pair<std::byte*, int64_t>>;
Blocks sorted(Blocks blocks) {
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

}  // namespace

TEST_CASE("outside a recording blocks are nobody's") {
  RecordedMemory recorded;
  CHECK(!recorded.is_recording());
  CHECK(!recorded.give_back(memory, 100));
  CHECK(recorded.take(100) == nullptr);
}

TEST_CASE("inside a recording blocks are taken again, where at most a quarter is lost") {
  RecordedMemory recorded;
  const int graph = 0;
  recorded.begin(&graph);
  CHECK(recorded.is_recording());
  recorded.add(memory, 100);
  recorded.add(memory + 1, 126);
  CHECK(recorded.take(100) == nullptr);  // both are in use
  CHECK(recorded.give_back(memory + 1, 126));
  CHECK(recorded.take(100) == nullptr);  // too large
  CHECK(recorded.take(127) == nullptr);  // too small
  CHECK(recorded.give_back(memory, 100));
  CHECK(recorded.take(100) == memory);
  CHECK(recorded.take(101) == memory + 1);
  recorded.end();
  CHECK(!recorded.is_recording());
}

TEST_CASE("a graph's blocks stay its own until it is gone, and those that arrays hold beyond") {
  RecordedMemory recorded;
  const int graph = 0, other = 0;
  recorded.begin(&graph);
  recorded.add(memory, 10);
  recorded.add(memory + 1, 20);
  recorded.add(memory + 2, 30, true);         // a constant
  CHECK(recorded.give_back(memory + 3, 40));  // from before
  CHECK(recorded.give_back(memory + 1, 20));
  recorded.end();
  CHECK(!recorded.give_back(memory + 4, 50));  // not the graph's
  recorded.begin(&other);
  CHECK(recorded.take(20) == nullptr);
  recorded.add(memory + 5, 60);
  CHECK(recorded.give_back(memory + 5, 60));
  recorded.end();
  CHECK(recorded.take(60) == nullptr);
  CHECK(sorted(recorded.forget(&graph)) == Blocks{{memory + 1, 20}, {memory + 2, 30}, {memory + 3, 40}});
  CHECK(!recorded.give_back(memory, 10));  // an array held it: any other memory now
  CHECK(sorted(recorded.forget(&other)) == Blocks{{memory + 5, 60}});
}
