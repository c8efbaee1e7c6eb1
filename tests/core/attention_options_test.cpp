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

TEST_CASE("attention: queries and keys turned by rope on the way in, gradients back") {
  for (const bool packed : {false, true})
    for (const int64_t head_dim : {2, 6, 16, 20, 32, 64})
      for (const int64_t length : {1, 2, 33, 130})
        compare_all({.batch = 2,
                     .heads = 4,
                     .kv_heads = 2,
                     .q_length = length,
                     .k_length = length,
                     .head_dim = head_dim,
                     .packed = packed,
                     .rope = true});
  for (const auto& [q, k] : {std::pair{1, 130}, {2, 9}, {5, 64}, {70, 200}})
    for (const bool causal : {true, false})
      compare_all({.heads = 2, .q_length = q, .k_length = k, .head_dim = 32, .causal = causal, .rope = true});
  for (const int64_t head_dim : {16, 20})
    compare_all({2, 4, 2, 150, 150, head_dim, true, true, 40, 2.0, AttentionShape::full_mask, true});
  compare_all({.q_length = 0, .k_length = 3, .head_dim = 4, .rope = true});
}

TEST_CASE("attention: with window, softcap and mask the same bits for any number of threads") {
  const int before = threads();
  const AttentionShape shape{3, 4, 2, 150, 150, 32, true, true, 70, 5.0, AttentionShape::full_mask, true};
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

// Keys behind a mask and queries that see nothing may hold anything, as padding does: all else is as in plain loops
// over the pairs that see each other. Nearly all keys are in blocks with padding, whose products are made pair by pair.
template <class T>
static void compare_with_bad_padding(AttentionShape shape, double tolerance, double gradient_tolerance) {
  using C = Accumulator<T>;
  CAPTURE(describe(shape));
  for (const C bad : {std::numeric_limits<C>::quiet_NaN(), std::numeric_limits<C>::infinity()}) {
    CAPTURE(bad);
    AttentionCase<T> c(shape);
    const int64_t rows = c.mask_batches() * c.mask_heads() * shape.q_length;
    const auto bad_key = [](int64_t key) { return key % 50 == 7; };
    const auto bad_query = [](int64_t query) { return query % 60 == 5; };
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t key = 0; key < shape.k_length; ++key)
        if (bad_key(key) || bad_query(row % shape.q_length))
          c.mask[static_cast<size_t>(row * shape.k_length + key)] = 0;
    for (int64_t b = 0; b < shape.batch; ++b) {
      for (int64_t g = 0; g < shape.kv_heads; ++g) {
        for (int64_t key = 0; key < shape.k_length; ++key) {
          if (!bad_key(key)) continue;
          c.qkv[static_cast<size_t>(c.k_index(b, key, g, shape.head_dim - 1))] = static_cast<T>(bad);
          c.qkv[static_cast<size_t>(c.v_index(b, key, g, 0))] = static_cast<T>(bad);
        }
      }
      for (int64_t h = 0; h < shape.heads; ++h) {
        for (int64_t query = 0; query < shape.q_length; ++query) {
          if (!bad_query(query)) continue;
          c.qkv[static_cast<size_t>(c.q_index(b, query, h, 0))] = static_cast<T>(bad);
          c.dout[static_cast<size_t>(c.out_index(b, query, h, shape.head_dim - 1))] = static_cast<T>(bad);
        }
      }
    }
    c.forward();
    c.backward();
    const AttentionReference<T> r = reference(c);
    CHECK(difference(c.out, r.out) <= tolerance);
    CHECK(difference(c.gradients, r.gradients) <= gradient_tolerance);
  }
}

TEST_CASE("attention: what bad numbers in padding can't reach is exact") {
  for (const int64_t head_dim : {16, 20}) {
    for (const bool packed : {false, true}) {
      for (const AttentionShape& shape :
           {AttentionShape{2, 4, 2, 150, 150, head_dim, true, packed, 40, 0, AttentionShape::full_mask},
            AttentionShape{2, 2, 2, 70, 70, head_dim, false, packed, 0, 2, AttentionShape::shared_mask}}) {
        compare_with_bad_padding<double>(shape, 1e-13, 1e-12);
        compare_with_bad_padding<float>(shape, 4e-6, 4e-5);
        compare_with_bad_padding<bf16>(shape, 0.02, 0.15);
      }
    }
  }
}

// Its weights are all 0. Only the key's component that meets the infinity gets 0 * inf.
TEST_CASE("attention: a query whose scores are all minus infinity is as one that sees nothing") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const int64_t keys = 100, head_dim = 20, at = 70;
  const AttentionShape shape{1, 1, 1, keys, keys, head_dim, true, false, 0, 0, AttentionShape::shared_mask};
  AttentionCase<float> far(shape), blind(shape);
  for (AttentionCase<float>* c : {&far, &blind}) {
    std::fill(c->mask.begin(), c->mask.end(), uint8_t{1});
    for (int64_t key = 0; key < keys; ++key) c->qkv[static_cast<size_t>(c->k_index(0, key, 0, 0))] = 1;
  }
  far.qkv[static_cast<size_t>(far.q_index(0, at, 0, 0))] = -infinity;
  std::fill_n(blind.mask.begin() + at * keys, keys, uint8_t{0});
  for (AttentionCase<float>* c : {&far, &blind}) {
    c->forward();
    c->backward();
  }
  CHECK(far.lse[at] == -infinity);
  CHECK(far.out[static_cast<size_t>(far.out_index(0, at, 0, 3))] == 0);
  CHECK(difference(far.out, blind.out) < 1e-6);
  for (int64_t key = 0; key <= at; ++key) {
    float& met = far.gradients[static_cast<size_t>(far.k_index(0, key, 0, 0))];
    CHECK(std::isnan(met));
    met = blind.gradients[static_cast<size_t>(far.k_index(0, key, 0, 0))];
  }
  CHECK(difference(far.gradients, blind.gradients) < 1e-6);
}
