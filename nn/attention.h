// SPDX-License-Identifier: Apache-2.0
// Causal self-attention with rotary positions, grouped key/value heads and a key/value cache for sampling.
#pragma once
#include <optional>

#include "nn/layers.h"

namespace moxie::nn {

struct AttentionOptions {
  int64_t width = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // 0: as many as heads; otherwise divides heads (GQA)
  int64_t head_dim = 0;  // 0: width / heads
  bool qk_norm = false;  // RMSNorm over each head of q and k before the rotation
  double rope_base = 10000;
  double output_gain = 1;  // scales the initial output projection
};

// Keys and values of the tokens seen so far in one layer, [batch, capacity, kv_heads, head_dim].
struct KeyValueCache {
  Array keys, values;
  int64_t length = 0;
};

struct Attention {
  AttentionOptions options;
  Linear qkv;  // [(heads + 2 kv_heads) head_dim, width]: the rows of q, then k, then v
  Linear output;
  std::optional<RmsNorm> q_norm, k_norm;

  Attention(const AttentionOptions& wanted, Initializer& init);
  // x [batch, time, width] -> the same. With a cache, x continues the tokens that it holds, at context.first_position;
  // no gradient is recorded then.
  Tensor operator()(const Tensor& x, const Context& context, KeyValueCache* cache = nullptr) const;
  static void visit(auto& self, auto&& f) {
    f("qkv", self.qkv), f("output", self.output), f("q_norm", self.q_norm), f("k_norm", self.k_norm);
  }

 private:
  Tensor normalized(const Tensor& x, const Context& context) const;
};

}  // namespace moxie::nn
