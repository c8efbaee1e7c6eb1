// SPDX-License-Identifier: Apache-2.0
#include "core/attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/parallel.h"
#include "tests/core/attention_case.h"

using namespace moxie;
using namespace moxie::testing;

TEST_CASE("attention: lengths around the block sizes") {
  for (const int64_t length : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130, 257}) {
    compare_all({.heads = 2, .kv_heads = 2, .q_length = length, .k_length = length, .head_dim = 8});
  }
}

TEST_CASE("attention: head dimensions") {
  for (const int64_t dim : {1, 2, 3, 4, 8, 16, 20, 32, 33, 64, 80}) {
    compare_all({.heads = 1, .kv_heads = 1, .q_length = 67, .k_length = 67, .head_dim = dim});
  }
  compare_all({.heads = 1, .kv_heads = 1, .q_length = 40, .k_length = 40, .head_dim = 300});
}

TEST_CASE("attention: grouped heads, batches, packed rows") {
  for (const int64_t kv_heads : {1, 2, 4}) {
    for (const bool packed : {false, true}) {
      compare_all({2, 4, kv_heads, 70, 70, 16, true, packed});
      compare_all({2, 4, kv_heads, 70, 70, 20, false, packed});
    }
  }
}

TEST_CASE("attention: key/value caches, full attention, more queries than keys") {
  for (const bool causal : {true, false}) {
    for (const auto& [q, k] : {std::pair{1, 1},
                               {1, 130},
                               {1, 600},
                               {2, 77},
                               {5, 64},
                               {33, 200},
                               {64, 65},
                               {100, 129},
                               {65, 64},
                               {70, 3},
                               {200, 70},
                               {150, 1},
                               {3, 2}}) {
      compare_all({2, 4, 2, q, k, 20, causal, false});
    }
  }
}

TEST_CASE("attention: empty sizes") {
  for (const bool causal : {true, false}) {
    compare_all({0, 2, 2, 5, 5, 8, causal, false});
    compare_all({2, 2, 2, 0, 5, 8, causal, false});
    compare_all({2, 2, 1, 5, 0, 8, causal, false});
  }
}

TEST_CASE("attention: backward is the derivative of forward") {
  for (const AttentionShape& shape :
       {AttentionShape{1, 2, 1, 6, 6, 4, true, false}, AttentionShape{2, 2, 2, 3, 5, 3, true, false},
        AttentionShape{1, 1, 1, 5, 3, 2, true, false}, AttentionShape{1, 4, 2, 4, 4, 5, false, true}}) {
    CAPTURE(describe(shape));
    AttentionCase<double> c(shape);
    c.forward();
    c.backward();
    const double h = 1e-3;
    for (size_t i = 0; i < c.qkv.size(); ++i) {
      const double x = c.qkv[i];
      const auto loss = [&](double step) {
        c.qkv[i] = x + step;
        c.forward();
        double sum = 0;
        for (size_t o = 0; o < c.out.size(); ++o) sum += c.out[o] * c.dout[o];
        return sum;
      };
      const double slope = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);
      c.qkv[i] = x;
      CAPTURE(i);
      CHECK(std::abs(slope - c.gradients[i]) <= 1e-9);
    }
  }
}

TEST_CASE("attention: the same bits for any number of threads") {
  const int before = threads();
  for (const AttentionShape& shape :
       {AttentionShape{3, 4, 2, 150, 150, 32, true, true}, AttentionShape{1, 4, 1, 300, 500, 20, true, false}}) {
    AttentionCase<float> one(shape), two(shape);
    set_threads(1);
    one.forward();
    one.backward();
    for (const int count : {2, 3}) {
      set_threads(count);
      two.poison();
      two.forward();
      two.backward();
      CHECK(same_bits(one.out, two.out));
      CHECK(same_bits(one.lse, two.lse));
      CHECK(same_bits(one.gradients, two.gradients));
    }
  }
  set_threads(before);
}

TEST_CASE("attention: large scores don't overflow") {
  const AttentionShape shape{1, 2, 2, 140, 140, 8, true, false};
  AttentionCase<double> exact(shape, 1, 100);
  AttentionCase<float> c(shape, 1, 100);
  c.forward();
  c.backward();
  for (size_t i = 0; i < c.qkv.size(); ++i) exact.qkv[i] = c.qkv[i];
  for (size_t i = 0; i < c.dout.size(); ++i) exact.dout[i] = c.dout[i];
  exact.forward();
  exact.backward();
  const AttentionReference<double> r = reference(exact);
  CHECK(difference(exact.out, r.out) <= 1e-9);
  CHECK(difference(exact.gradients, r.gradients) <= 1e-7);
  CHECK(*std::max_element(c.lse.begin(), c.lse.end()) > 1e4F);
  // Scores of 1e4 carry an error of 1e-3 in f32, values are around 100.
  CHECK(difference(c.out, r.out) <= 0.5);
  for (const float x : c.gradients) CHECK(std::isfinite(x));
}

TEST_CASE("attention: NaN and inf reach whoever sees them, and nobody else") {
  const AttentionShape shape{1, 2, 1, 100, 100, 8, true, false};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const int64_t at : {0, 37, 99}) {
      for (const int which : {0, 1, 2, 3}) {  // q, k, v, dout
        CAPTURE(which);
        CAPTURE(at);
        AttentionCase<float> c(shape);
        if (which == 3) c.dout[static_cast<size_t>(c.out_index(0, at, 0, 3))] = bad;
        if (which < 3) {
          const int64_t i = which == 0   ? c.q_index(0, at, 0, 3)
                            : which == 1 ? c.k_index(0, at, 0, 3)
                                         : c.v_index(0, at, 0, 3);
          c.qkv[static_cast<size_t>(i)] = bad;
        }
        c.forward();
        c.backward();
        for (int64_t t = 0; t < 100; ++t) {
          const bool sees = which == 0 ? t == at : which == 3 ? false : t >= at;
          bool out_bad = false, dq_bad = false, dkv_bad = false;
          for (int64_t i = 0; i < 8; ++i) {
            out_bad |= !std::isfinite(c.out[static_cast<size_t>(c.out_index(0, t, 0, i))]);
            dq_bad |= !std::isfinite(c.gradients[static_cast<size_t>(c.q_index(0, t, 0, i))]);
            dkv_bad |= !std::isfinite(c.gradients[static_cast<size_t>(c.k_index(0, t, 0, i))]);
            dkv_bad |= !std::isfinite(c.gradients[static_cast<size_t>(c.v_index(0, t, 0, i))]);
          }
          // With inf in q or k a score may be -inf, which is no more than a weight of zero.
          if (std::isnan(bad) || which >= 2) CHECK(out_bad == sees);
          if (!sees) CHECK(!out_bad);
          if (which == 0 || which == 3) {  // one bad query: the keys up to it, and dq of its own
            CHECK((!dq_bad || t == at));
            CHECK((!dkv_bad || t <= at));
            if (std::isnan(bad)) CHECK(dq_bad == (t == at));
            if (std::isnan(bad)) CHECK(dkv_bad == (t <= at));
          } else {
            CHECK((!dq_bad || t >= at));
            if (std::isnan(bad)) CHECK(dq_bad == (t >= at));
          }
        }
      }
    }
  }
}
