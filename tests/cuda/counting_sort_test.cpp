// SPDX-License-Identifier: Apache-2.0
// The sort of few different integers, run by the block emulator against std::stable_sort.
#include "cuda/counting_sort.cuh"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "tests/cuda/block_emulator.h"

using namespace moxie::cuda;

namespace {

using Ints = std::vector<int32_t>;

void check_sort(int n, int values, int group, bool one_value = false) {
  CAPTURE(n);
  CAPTURE(values);
  std::mt19937 random(3);
  Ints keys(static_cast<size_t>(n)), wanted(keys.size());
  for (int32_t& key : keys)
    key = one_value ? values - 1 : static_cast<int32_t>(random() % static_cast<uint32_t>(values));
  std::iota(wanted.begin(), wanted.end(), 0);
  const auto key_of = [&](int32_t i) { return keys[static_cast<size_t>(i)]; };
  std::stable_sort(wanted.begin(), wanted.end(), [&](int32_t a, int32_t b) { return key_of(a) < key_of(b); });
  const int chunks = (n + SmallSort::chunk - 1) / SmallSort::chunk;
  Ints counts(static_cast<size_t>(chunks * values)), offsets(static_cast<size_t>(values) + 1), order, place;
  const SmallSort whole{keys.data(), counts.data(), offsets.data(), nullptr, nullptr, n, values, chunks, group};
  for (const auto in : {Emulation::Order::forward, Emulation::Order::backward, Emulation::Order::shuffled}) {
    order.assign(keys.size(), -1), place.assign(keys.size(), -1);
    SmallSort sort = whole;
    sort.order = order.data(), sort.place = place.data();
    const Emulation blocks{
        .blocks = chunks, .threads = SmallSort::threads, .shared_bytes = sizeof(SmallSort::Memory), .order = in};
    const auto memory = []() -> SmallSort::Memory& {
      return *reinterpret_cast<SmallSort::Memory*>(dynamic_shared_memory());
    };
    emulate(blocks, [&] { sort.count(block_index(), memory()); });
    emulate(blocks, [&] { sort.put(block_index(), memory()); });
    for (int v = 0; v <= values; ++v)
      CHECK(offsets[static_cast<size_t>(v)] == std::count_if(keys.begin(), keys.end(), [=](int k) { return k < v; }));
    int64_t different = 0;
    for (size_t slot = 0; slot < wanted.size(); ++slot) {
      different += order[slot] != wanted[slot] / group;
      different += place[static_cast<size_t>(wanted[slot])] != static_cast<int32_t>(slot);
    }
    CHECK(different == 0);
  }
}

}  // namespace

TEST_CASE("sort of few values: is std::stable_sort") {
  for (const int n : {1, 33, 2048, 2049})
    for (const int values : {1, 3, 64}) check_sort(n, values, 1);
  check_sort(5000, 512, 8);
  check_sort(4200, 300, 2, true);
}
