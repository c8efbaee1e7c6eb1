// SPDX-License-Identifier: Apache-2.0
// core/attention_pairs.h: attention of bf16 by pairs and in f32, whichever of them this processor takes by itself.
#include "core/attention_pairs.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/attention_cpu.h"
#include "tests/core/attention_case.h"

using namespace moxie;
using namespace moxie::testing;
using attention_cpu::number_at;
using attention_cpu::Pair;
using attention_cpu::Pairs;
using attention_cpu::Whole;

namespace {

template <class A> void compare_in(const AttentionShape& shape) {
  compare<bf16>(shape, 0.02, 0.15, std::is_same_v<A, Pairs>, attention_cpu::forward<bf16, A>,
                attention_cpu::backward<bf16, A>);
}

void compare_both(const AttentionShape& shape) {
  compare_in<Pairs>(shape);
  compare_in<Whole<float>>(shape);
}

// What bf16 rounds to whichever way: halves between two numbers, the largest, infinities, NaN of any payload.
std::vector<float> special_numbers() {
  std::vector<float> x;
  for (const uint32_t bits :
       {0x3F808000u, 0x3F818000u, 0x3F808001u, 0x3F807FFFu, 0x00000000u, 0x80000000u, 0x7F7FFFFFu, 0x7F800000u,
        0xFF800000u, 0x7FC00000u, 0x7F800001u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0x477FE000u, 0x00800000u, 0xC2F6E979u}) {
    x.push_back(std::bit_cast<float>(bits));
  }
  return x;
}

bool same(float x, float y) { return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y); }

// The pair's halves are what bf16 makes of the numbers, bit for bit but for what a NaN carries. (The processor's
// instructions make zeros of subnormal numbers.)
void check_pair(Pair pair, float first, float second) {
  for (const auto& [half, x] : {std::pair{number_at(&pair, 0), first}, {number_at(&pair, 1), second}}) {
    const auto wanted = static_cast<float>(bf16(x));
    CHECK_MESSAGE((std::isnan(x) ? std::isnan(half) : same(half, wanted)), x, " became ", half);
  }
}

}  // namespace

TEST_CASE("attention by pairs: rows and columns are paired as bf16 rounds them") {
  constexpr int64_t lanes = simd::Simd<float>::lanes;
  const std::vector<float> x = special_numbers();
  REQUIRE(x.size() == 16);
  std::vector<float> rows(3 * 16);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = x[(i % 16 + i / 16 * 5) % 16];
  static_assert(16 % lanes == 0);
  std::vector<Pair> columns(3 * 8), along(2 * 16, 1);
  attention_cpu::pair_columns(rows.data(), 16, 3, 16, columns.data(), 8);
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 8; ++j) check_pair(columns[i * 8 + j], rows[i * 16 + 2 * j], rows[i * 16 + 2 * j + 1]);
  attention_cpu::pair_rows(rows.data(), 16, 3, 16, along.data(), 16);
  for (size_t j = 0; j < 16; ++j) {
    check_pair(along[j], rows[j], rows[16 + j]);
    check_pair(along[16 + j], rows[32 + j], 0);
  }
}

TEST_CASE("attention by pairs: what is inf or NaN is found in either half, and only among the row's numbers") {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()})
    for (int64_t at = 0; at < 32; ++at) {
      std::vector<float> x(32, 3e38f);
      std::vector<Pair> pairs(16);
      x[static_cast<size_t>(at)] = bad;
      attention_cpu::pair_columns(x.data(), 16, 2, 16, pairs.data(), 8);
      CHECK(attention_cpu::all_finite(pairs.data(), 8, 2, 14) == (at % 16 >= 14));
    }
}

TEST_CASE("attention by pairs: lengths and head sizes, even and odd") {
  for (const int64_t head_dim : {1, 2, 3, 8, 15, 16, 17, 33, 64, 80})
    for (const auto& [q, k] : {std::pair{1, 1}, {2, 3}, {3, 3}, {31, 31}, {33, 65}, {63, 64}, {65, 65}, {130, 131}})
      for (const bool causal : {true, false})
        compare_both({.batch = 2,
                      .heads = 4,
                      .kv_heads = 2,
                      .q_length = q,
                      .k_length = k,
                      .head_dim = head_dim,
                      .causal = causal});
  compare_both({.heads = 2, .q_length = 70, .k_length = 3, .head_dim = 16});
  compare_both({.heads = 2, .q_length = 0, .k_length = 5, .head_dim = 16});
  compare_both({.heads = 2, .q_length = 5, .k_length = 0, .head_dim = 16});
}

TEST_CASE("attention by pairs: windows, softcaps, masks and rope") {
  for (const int64_t window : {1, 2, 3, 16, 27, 33, 64, 65, 127, 128})
    for (const int64_t length : {5, 64, 101, 150})
      compare_both({.heads = 2, .q_length = length, .k_length = length, .head_dim = 20, .window = window});
  for (const int64_t head_dim : {6, 16, 32})
    for (const bool packed : {false, true}) {
      compare_both({2, 4, 2, 151, 151, head_dim, true, packed, 0, 0, AttentionShape::no_mask, true});
      compare_both({2, 4, 2, 151, 151, head_dim, true, packed, 41, 2.0, AttentionShape::full_mask, true});
      compare_both({2, 4, 2, 67, 67, head_dim, false, packed, 0, 0, AttentionShape::batch_mask, false});
    }
  compare_both({.heads = 2, .q_length = 33, .k_length = 90, .head_dim = 32, .window = 7, .rope = true});
}

TEST_CASE("attention by pairs: what a query does not see reaches it neither as a number nor as NaN") {
  for (const auto& [queries, keys] : {std::pair{3, 3}, {33, 33}, {64, 65}, {91, 91}, {90, 91}, {100, 119}})
    for (int64_t bad = 0; bad < keys; ++bad) {
      CAPTURE(keys);
      CAPTURE(bad);
      AttentionCase<bf16> c({.heads = 1, .q_length = queries, .k_length = keys, .head_dim = 18});
      for (int64_t i = 0; i < 18; ++i) {
        c.qkv[static_cast<size_t>(c.k_index(0, bad, 0, i))] = bf16(std::numeric_limits<float>::infinity());
        c.qkv[static_cast<size_t>(c.v_index(0, bad, 0, i))] = bf16(std::numeric_limits<float>::quiet_NaN());
      }
      attention_cpu::forward<bf16, Pairs>(c.problem().forward);
      attention_cpu::backward<bf16, Pairs>(c.problem());
      const auto is_number = [](bf16 x) { return std::isfinite(static_cast<float>(x)); };
      bool numbers = true;
      for (int64_t t = 0; t + keys - queries < bad; ++t)
        for (int64_t i = 0; i < 18; ++i)
          numbers = numbers && is_number(c.out[static_cast<size_t>(c.out_index(0, t, 0, i))]) &&
                    is_number(c.gradients[static_cast<size_t>(c.q_index(0, t, 0, i))]);
      CHECK(numbers);
    }
}

// A key of -inf gives queries above 0 scores of -inf, and p = ds = 0. The last of an odd number of queries shares a
// pair with a row of zeros, whose score is NaN.
TEST_CASE("attention by pairs: the half of a pair beyond the last query takes no part") {
  for (const int64_t bad : {0, 1, 4}) {
    AttentionCase<bf16> c({.heads = 1, .q_length = 3, .k_length = 5, .head_dim = 16, .causal = false});
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t t = 0; t < 3; ++t) c.qkv[static_cast<size_t>(c.q_index(0, t, 0, i))] = bf16(0.5f);
      c.qkv[static_cast<size_t>(c.k_index(0, bad, 0, i))] = bf16(-std::numeric_limits<float>::infinity());
    }
    attention_cpu::forward<bf16, Pairs>(c.problem().forward);
    attention_cpu::backward<bf16, Pairs>(c.problem());
    for (int64_t i = 0; i < 16; ++i) {
      CHECK(static_cast<float>(c.gradients[static_cast<size_t>(c.k_index(0, bad, 0, i))]) == 0);
      CHECK(static_cast<float>(c.gradients[static_cast<size_t>(c.v_index(0, bad, 0, i))]) == 0);
    }
  }
}
