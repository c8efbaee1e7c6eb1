// SPDX-License-Identifier: Apache-2.0
// core/kernels/random/mask.h: its forms agree, and what the bits of a block have in common.
#include "core/kernels/random/mask.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/thread_team.h"

using namespace moxie;

namespace {

constexpr RandomKey key{.seed = 0x123456789ABCDEFull, .stream = 7, .step = 42};

// out[i] = the bits of element first + i
struct DrawMask {
  uint64_t first;
  int64_t n;
  uint32_t* out;
  template <class Team> void operator()(Team team, int64_t) const {
    uint32_t* const bits = out;
    each_mask(
        team, key, first, n, [](int64_t, uint32_t value) { return value; },
        [=](int64_t i, uint32_t value) { bits[i] = value; });
  }
};

std::vector<uint32_t> draw_mask(uint64_t first, int64_t n) {
  std::vector<uint32_t> bits(static_cast<size_t>(n), ~0u);
  DrawMask{first, n, bits.data()}(SerialTeam{}, 0);
  return bits;
}

}  // namespace

TEST_CASE("each_mask: an element has the same bits drawn alone, in a row and by a team") {
  for (const uint64_t first : {uint64_t{0}, uint64_t{1024}, uint64_t{1} << 36}) {
    for (const int64_t n : {0, 1, 63, 64, 65, 255, 1023, 1024, 1025, 2000, 4096}) {
      const std::vector<uint32_t> row = draw_mask(first, n);
      std::vector<uint32_t> by_team(static_cast<size_t>(n), ~0u);
      run_rows_thread_team(DrawMask{first, n, by_team.data()}, 1, 2);
      int64_t different = 0;
      for (int64_t i = 0; i < n; ++i)
        different += row[static_cast<size_t>(i)] != mask_bits(key, first + static_cast<uint64_t>(i));
      CHECK(different == 0);
      CHECK(by_team == row);
    }
  }
}

TEST_CASE("mask_bits: which bytes of which block") {
  const Philox4 block = random_block(key, 3 * 64 + 5);  // of elements 3 * 1024 + 5, 3 * 1024 + 69, ...
  const uint32_t* w = block.word;
  CHECK(mask_bits(key, 3 * 1024 + 5) == ((w[0] & 255) << 8 | ((w[1] ^ w[2]) & 255)));
  CHECK(mask_bits(key, 3 * 1024 + 5 + 64 * 6) == ((w[1] >> 16 & 255) << 8 | ((w[2] ^ w[3]) >> 16 & 255)));
  CHECK(mask_bits(key, 3 * 1024 + 5 + 64 * 9) == ((w[2] >> 8 & 255) << 8 | ((w[3] ^ w[0]) >> 8 & 255)));
  CHECK(mask_bits(key, 3 * 1024 + 5 + 64 * 15) == ((w[3] >> 24) << 8 | (w[0] ^ w[1]) >> 24));
}

// The bits of two elements are xors of the block's 128. Where these 32 xors are of full rank, every value of the pair
// comes from equally many blocks.
TEST_CASE("mask_bits: any two elements of a block are uniform and independent") {
  int64_t dependent = 0;
  for (int a = 0; a < 16; ++a) {
    for (int b = 0; b < a; ++b) {
      std::vector<uint32_t> images;
      for (uint32_t bit = 0; bit < 128; ++bit) {
        Philox4 block{};
        block.word[bit / 32] = 1u << bit % 32;
        images.push_back(mask_bits_of(block, a) << 16 | mask_bits_of(block, b));
      }
      int rank = 0;
      for (int column = 31; column >= 0; --column) {
        const auto pivot =
            std::find_if(images.begin(), images.end(), [=](uint32_t image) { return image >> column == 1; });
        if (pivot == images.end()) continue;
        const uint32_t row = *pivot;
        for (uint32_t& image : images) image ^= image >> column == 1 ? row : 0;
        ++rank;
      }
      dependent += rank != 32;
    }
  }
  CHECK(dependent == 0);
}

TEST_CASE("mask_bits: how many are below a threshold, by the upper and by the lower byte") {
  const int64_t n = 1 << 20;
  const std::vector<uint32_t> bits = draw_mask(0, n);
  for (const uint32_t threshold : {128u, 6554u, 19661u, 65535u}) {
    const auto below = std::count_if(bits.begin(), bits.end(), [=](uint32_t value) { return value < threshold; });
    const double p = threshold / 65536.0, expected = p * static_cast<double>(n);
    CAPTURE(threshold);
    CHECK(std::abs(static_cast<double>(below) - expected) < 4 * std::sqrt(expected * (1 - p)));
  }
}
