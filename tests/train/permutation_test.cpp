// SPDX-License-Identifier: Apache-2.0
// nn/train/permutation.h: every element once, in an order that looks random.
#include "nn/train/permutation.h"

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

using namespace moxie;
using namespace moxie::train;

namespace {

std::vector<int64_t> image(RandomKey key, int64_t size) {
  const Permutation permutation(key, size);
  std::vector<int64_t> result;
  for (int64_t i = 0; i < size; ++i) result.push_back(permutation(i));
  return result;
}

}  // namespace

TEST_CASE("Permutation: every size up to 300 and some larger ones: each element once") {
  std::vector<int64_t> sizes{1023, 1024, 1025, 4096, 4097, 65535};
  for (int64_t size = 1; size <= 300; ++size) sizes.push_back(size);
  for (const int64_t size : sizes) {
    std::vector<bool> seen(static_cast<size_t>(size));
    for (const int64_t value : image({.seed = 5, .stream = 1, .step = 2}, size)) {
      REQUIRE(value >= 0);
      REQUIRE(value < size);
      CHECK_FALSE(seen[static_cast<size_t>(value)]);
      seen[static_cast<size_t>(value)] = true;
    }
  }
}

TEST_CASE("Permutation: the key decides, every part of it") {
  const std::vector<int64_t> base = image({.seed = 1, .stream = 2, .step = 3}, 1000);
  CHECK(image({.seed = 1, .stream = 2, .step = 3}, 1000) == base);
  CHECK(image({.seed = 2, .stream = 2, .step = 3}, 1000) != base);
  CHECK(image({.seed = 1, .stream = 3, .step = 3}, 1000) != base);
  CHECK(image({.seed = 1, .stream = 2, .step = 4}, 1000) != base);
}

TEST_CASE("Permutation: the order is pinned, since a resumed run relies on it") {
  CHECK(image({.seed = 1, .stream = 2, .step = 3}, 10) == std::vector<int64_t>{0, 6, 2, 4, 7, 3, 9, 1, 8, 5});
  CHECK(random_below({.seed = 1, .stream = 2, .step = 3}, 4, 1000) == 562);
}

TEST_CASE("Permutation: where an element goes is uniform over keys, and neighbours part") {
  // 8000 keys, 20 places: chi squared with 19 degrees of freedom is below 43.8 in 999 of 1000 cases.
  std::vector<int> counts(20);
  for (uint32_t step = 0; step < 8000; ++step) {
    ++counts[static_cast<size_t>(Permutation({.seed = 7, .stream = 0, .step = step}, 20)(13))];
  }
  double chi = 0;
  for (const int count : counts) chi += (count - 400.0) * (count - 400.0) / 400.0;
  CHECK(chi < 43.8);
  // The correlation of place and image over 10,000 elements has a standard deviation of 0.01.
  const std::vector<int64_t> values = image({.seed = 3, .stream = 0, .step = 0}, 10000);
  double sum = 0;
  int neighbours = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += (static_cast<double>(i) - 4999.5) * (static_cast<double>(values[i]) - 4999.5);
    if (i > 0 && std::abs(values[i] - values[i - 1]) == 1) ++neighbours;
  }
  CHECK(std::abs(sum / 10000 / (10000.0 * 10000.0 / 12)) < 0.04);
  CHECK(neighbours < 12);  // 2 are expected
}

TEST_CASE("Permutation: a very large one answers at once") {
  const int64_t size = (int64_t{1} << 62) - 1;
  const Permutation permutation({.seed = 1, .stream = 1, .step = 1}, size);
  for (int64_t i = 0; i < 100; ++i) {
    const int64_t value = permutation(size - 1 - i);
    CHECK(value >= 0);
    CHECK(value < size);
  }
}

TEST_CASE("Permutation and random_below: rules") {
  CHECK_THROWS_WITH_AS(Permutation({}, 0), "Permutation: size must be between 1 and 2^62, got 0",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(Permutation({}, 3)(3), "Permutation: index 3 is not below 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(Permutation({}, 3)(-1), "Permutation: index -1 is not below 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(random_below({}, 0, 0), "random_below: the bound must be at least 1, got 0",
                       std::invalid_argument);
}

TEST_CASE("random_below: uniform, and right at the ends of 64 bits") {
  std::vector<int> counts(10);
  for (uint64_t i = 0; i < 5000; ++i)
    ++counts[static_cast<size_t>(random_below({.seed = 2, .stream = 0, .step = 0}, i, 10))];
  for (const int count : counts) CHECK(std::abs(count - 500) < 90);  // four standard deviations
  for (uint64_t i = 0; i < 200; ++i) {
    CHECK(random_below({}, i, 1) == 0);
    const int64_t large = random_below({}, i, INT64_MAX);
    const Philox4 words = random_block({}, i);
    const double share = (words.word[1] + words.word[0] * 0x1p-32) * 0x1p-32;
    CHECK(static_cast<double>(large) * 0x1p-63 == doctest::Approx(share).epsilon(1e-14));
  }
}
