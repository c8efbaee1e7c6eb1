// SPDX-License-Identifier: Apache-2.0
// core/sort.h
#include "core/sort.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "core/philox.h"

using namespace moxie;

namespace {

using Ints = std::vector<int32_t>;

CountingSort sorted(const Ints& keys, int64_t values) {
  return counting_sort(Array::from(keys, {static_cast<int64_t>(keys.size())}), values);
}

}  // namespace

TEST_CASE("counting_sort: small cases") {
  const CountingSort s = sorted({2, 0, 2, 1, 0}, 4);
  CHECK(s.offsets.to_vector<int32_t>() == Ints{0, 2, 3, 5, 5});
  CHECK(s.order.to_vector<int32_t>() == Ints{1, 4, 3, 0, 2});
  CHECK(s.place.to_vector<int32_t>() == Ints{3, 0, 4, 2, 1});
  const CountingSort lines = counting_sort(Array::from(Ints{2, 0, 1, 0, 2, 1}, {3, 2}), 3, 2);
  CHECK(lines.order.to_vector<int32_t>() == Ints{0, 1, 1, 2, 0, 2});
  CHECK(lines.place.to_vector<int32_t>() == Ints{4, 0, 2, 1, 5, 3});
  CHECK(sorted({}, 3).offsets.to_vector<int32_t>() == Ints{0, 0, 0, 0});
  CHECK(sorted({}, 3).order.numel() == 0);
  CHECK(sorted({}, 0).offsets.to_vector<int32_t>() == Ints{0});
  CHECK(sorted({0, 0}, 1).order.to_vector<int32_t>() == Ints{0, 1});
}

TEST_CASE("counting_sort: is std::stable_sort") {
  for (const int64_t n : {1, 31, 1025, 30000})
    for (const int64_t values : {1, 7, 1000}) {
      Ints keys(static_cast<size_t>(n));
      for (size_t i = 0; i < keys.size(); ++i)
        keys[i] = static_cast<int32_t>(random_bits({.seed = 6}, i) % static_cast<uint64_t>(values));
      const CountingSort s = sorted(keys, values);
      Ints order(keys.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return keys[static_cast<size_t>(a)] < keys[static_cast<size_t>(b)];
      });
      CHECK(s.order.to_vector<int32_t>() == order);
      const Ints offsets = s.offsets.to_vector<int32_t>();
      REQUIRE(offsets.size() == static_cast<size_t>(values) + 1);
      for (int32_t v = 0; v < values; ++v)
        CHECK(offsets[static_cast<size_t>(v) + 1] - offsets[static_cast<size_t>(v)] ==
              std::count(keys.begin(), keys.end(), v));
    }
}

TEST_CASE("counting_sort: errors") {
  // two gigabytes of address space that nobody touches
  CHECK_THROWS_WITH_AS(counting_sort(Array::empty({int64_t{1} << 31}, {Dtype::u8}), 1),
                       "counting_sort: at most 2^31 - 1 keys, got 2147483648", std::invalid_argument);
  release_cached_memory();
}
