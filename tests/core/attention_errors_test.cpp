// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>
#include <string>

#include "tests/core/attention_case.h"

using namespace moxie;
using namespace moxie::testing;

TEST_CASE("attention: messages") {
  AttentionCase<float> c({1, 4, 2, 3, 3, 4, true, false});
  const auto message = [](const AttentionBackward& p, bool backward) -> std::string {
    try {
      backward ? attention_backward(Device::cpu(), p) : attention(Device::cpu(), p.forward);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  AttentionBackward p = c.problem();
  p.forward.kv_heads = 3;
  CHECK(message(p, false) == "attention: heads must be a multiple of kv_heads, got heads = 4, kv_heads = 3");
  CHECK(message(p, true) == "attention_backward: heads must be a multiple of kv_heads, got heads = 4, kv_heads = 3");
  p = c.problem();
  p.forward.dtype = Dtype::i32;
  CHECK(message(p, false) == "attention: dtype must be f64, f32 or bf16, got i32");
  p = c.problem();
  p.forward.head_dim = 0;
  CHECK(message(p, false) == "attention: head_dim must be at least 1, got 0");
  p = c.problem();
  p.forward.batch = -1;
  CHECK(message(p, false) == "attention: sizes must not be negative, batch -1, q 3, k 3");
  p = c.problem();
  p.forward.v_stride = 7;
  CHECK(
      message(p, false) ==
      "attention: strides must hold all heads of a position, q 16 and out 16 (at least 16), k 8 and v 7 (at least 8)");
  p = c.problem();
  p.dout_stride = 15;
  CHECK(message(p, true) ==
        "attention_backward: the stride of dout must hold all heads of a position, got 15, at least 16");
  p = c.problem();
  p.forward.window = -1;
  CHECK(message(p, false) == "attention: window must not be negative, got -1");
  p = c.problem();
  p.forward.window = 2;
  p.forward.causal = false;
  CHECK(message(p, true) == "attention_backward: a window of 2 keys needs causal = true");
  p = c.problem();
  p.forward.softcap = -0.5;
  CHECK(message(p, false) == "attention: softcap must be 0 or positive and finite, got -0.5");
  p.forward.softcap = std::numeric_limits<double>::infinity();
  CHECK(message(p, false) == "attention: softcap must be 0 or positive and finite, got inf");
  p = c.problem();
  p.forward.mask_head_stride = -3;
  CHECK(message(p, false) == "attention: strides of the mask must not be negative, got batch 0, head -3, query 0");
  const double angles[8] = {};
  p = c.problem();
  p.forward.cosine = angles;
  CHECK(message(p, false) == "attention: cosine and sine go together");
  p.forward.sine = angles;
  p.forward.head_dim = 3;
  CHECK(message(p, true) ==
        "attention_backward: rope needs an even head_dim and a key for each query's place, got head_dim 3, 3 queries "
        "and 3 keys");
  p.forward.head_dim = 4;
  p.forward.k_length = 2;
  CHECK(message(p, false) ==
        "attention: rope needs an even head_dim and a key for each query's place, got head_dim 4, 3 queries and 2 "
        "keys");
#ifdef MOXIE_CUDA
  p.forward.k_length = 3;
  CHECK_THROWS_WITH(attention(Device::cuda(), p.forward),
                    "attention: turns queries and keys on the CPU alone; on a GPU call rope before");
  CHECK_THROWS_WITH(attention_backward(Device::cuda(), p),
                    "attention_backward: turns queries and keys on the CPU alone; on a GPU call rope before");
#else
  CHECK_THROWS_AS(attention(Device::cuda(), c.problem().forward), std::invalid_argument);
  CHECK_THROWS_AS(attention_backward(Device::cuda(), c.problem()), std::invalid_argument);
#endif
}
