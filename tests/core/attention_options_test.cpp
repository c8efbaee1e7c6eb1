// SPDX-License-Identifier: Apache-2.0
// core/attention.h: windows, softcaps and masks, alone and together.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/parallel.h"
#include "tests/core/attention_case.h"

using namespace moxie;
using namespace moxie::testing;

TEST_CASE("attention: windows around the block sizes") {
  for (const int64_t window : {1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 200, 1000})
    compare_all({.heads = 2, .kv_heads = 1, .q_length = 200, .k_length = 200, .head_dim = 8, .window = window});
  for (const int64_t length : {1, 2, 5, 31, 64, 129})
    compare_all({.heads = 2, .kv_heads = 2, .q_length = length, .k_length = length, .head_dim = 16, .window = 5});
}

TEST_CASE("attention: windows with caches, and with more queries than keys") {
  for (const auto& [q, k] : {std::pair{1, 130}, {1, 600}, {2, 77}, {5, 64}, {33, 400}, {100, 129}, {70, 3}, {200, 70}})
    for (const int64_t window : {1, 40, 129})
      compare_all(
          {.batch = 2, .heads = 4, .kv_heads = 2, .q_length = q, .k_length = k, .head_dim = 20, .window = window});
}

TEST_CASE("attention: softcap") {
  for (const double softcap : {0.5, 3.0, 50.0})
    for (const auto& [q, k] : {std::pair{1, 130}, {2, 9}, {3, 3}, {65, 65}, {130, 200}, {70, 20}})
      for (const bool causal : {true, false})
        compare_all({.heads = 4,
                     .kv_heads = 2,
                     .q_length = q,
                     .k_length = k,
                     .head_dim = 12,
                     .causal = causal,
                     .softcap = softcap});
}

TEST_CASE("attention: masks, repeated over batch and heads or not, where rows may see nothing") {
  for (const auto mask :
       {AttentionShape::shared_mask, AttentionShape::batch_mask, AttentionShape::head_mask, AttentionShape::full_mask})
    for (const auto& [q, k] : {std::pair{1, 1}, {1, 300}, {2, 140}, {13, 13}, {64, 64}, {130, 130}, {150, 40}})
      for (const bool causal : {true, false})
        compare_all({.batch = 2,
                     .heads = 4,
                     .kv_heads = 2,
                     .q_length = q,
                     .k_length = k,
                     .head_dim = 16,
                     .causal = causal,
                     .mask = mask});
}

TEST_CASE("attention: window, softcap and mask together, packed and not") {
  for (const bool packed : {false, true})
    for (const int64_t head_dim : {16, 20})
      compare_all({2, 4, 2, 150, 150, head_dim, true, packed, 40, 2.0, AttentionShape::full_mask});
  compare_all({2, 4, 1, 1, 150, 20, true, false, 40, 2.0, AttentionShape::full_mask});
  for (const int64_t window : {0, 3}) {
    compare_all({0, 2, 2, 5, 5, 8, true, false, window, 1.0, AttentionShape::full_mask});
    compare_all({2, 2, 2, 0, 5, 8, true, false, window, 1.0, AttentionShape::full_mask});
    compare_all({2, 2, 1, 5, 0, 8, true, false, window, 1.0, AttentionShape::shared_mask});
  }
}

TEST_CASE("attention: with window, softcap and mask the same bits for any number of threads") {
  const int before = threads();
  const AttentionShape shape{3, 4, 2, 150, 150, 32, true, true, 70, 5.0, AttentionShape::full_mask};
  AttentionCase<float> one(shape), two(shape);
  set_threads(1);
  one.forward();
  one.backward();
  set_threads(2);
  two.forward();
  two.backward();
  set_threads(before);
  CHECK(same_bits(one.out, two.out));
  CHECK(same_bits(one.lse, two.lse));
  CHECK(same_bits(one.gradients, two.gradients));
}

// Query t sees the keys t - 29 .. t but for every fifth; a bad number anywhere must reach exactly who sees it.
TEST_CASE("attention: NaN and inf reach nobody beyond a window or behind a mask") {
  for (const int64_t queries : {1, 100}) {
    const AttentionShape shape{1, 2, 1, queries, 100, 8, true, false, 30, 0, AttentionShape::shared_mask};
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      for (const int64_t at : {0, 37, 75, 99}) {
        for (const bool in_value : {false, true}) {
          AttentionCase<float> c(shape);
          for (size_t i = 0; i < c.mask.size(); ++i) c.mask[i] = (i % 100) % 5 != 0;
          CAPTURE(at);
          c.qkv[static_cast<size_t>(in_value ? c.v_index(0, at, 0, 3) : c.k_index(0, at, 0, 3))] = bad;
          c.forward();
          c.backward();
          for (int64_t t = 0; t < queries; ++t) {
            bool out_bad = false, dq_bad = false;
            for (int64_t i = 0; i < 8; ++i) {
              out_bad |= !std::isfinite(c.out[static_cast<size_t>(c.out_index(0, t, 0, i))]);
              dq_bad |= !std::isfinite(c.gradients[static_cast<size_t>(c.q_index(0, t, 0, i))]);
            }
            const bool sees = c.sees(0, 0, t, at);
            if (!sees) CHECK_FALSE(out_bad);
            if (!sees) CHECK_FALSE(dq_bad);
            if (sees && (std::isnan(bad) || in_value)) CHECK(out_bad);
          }
        }
      }
    }
  }
}
