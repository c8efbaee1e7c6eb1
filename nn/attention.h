// SPDX-License-Identifier: Apache-2.0
// Self-attention with rotary positions, grouped key/value heads, windows, softcaps, masks and a key/value cache for
// sampling.
#pragma once
#include <optional>
#include <string_view>

#include "nn/layers.h"

namespace moxie::nn {

// RMSNorm of queries and keys before the rotation.
enum class QkNorm {
  none,
  per_head,  // each head by itself, one weight for all heads (Qwen3)
  whole      // all heads as one row (OLMoE)
};
const char* name_of(QkNorm norm);
// Throws std::invalid_argument for a name other than none, per_head, whole.
QkNorm qk_norm_from_name(std::string_view name);

struct AttentionOptions {
  int64_t width = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // 0: as many as heads; otherwise divides heads (GQA)
  int64_t head_dim = 0;  // 0: width / heads
  QkNorm qk_norm = QkNorm::none;
  double norm_epsilon = 1e-5;  // of that norm
  bool bias = false;           // added to q, k, v and to the output
  double clip_qkv = 0;       // q, k and v are cut to [-clip_qkv, clip_qkv] before the rotation, after the norm; 0: not
  double rope_base = 10000;  // 0: no rotation
  bool causal = true;        // a token sees those up to its own place; false: all
  int64_t window = 0;        // a token sees at most the last `window` of those, itself included; 0: all. Needs causal
  double softcap = 0;        // a score s becomes softcap tanh(s / softcap); 0: not
  double output_gain = 1;    // scales the initial output projection
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
  // no gradient is recorded then. A mask (u8 [time, tokens] or [batch, heads, time, tokens], where each but tokens may
  // be 1, tokens being time with what the cache holds before) is 0 where a token may not be seen.
  Tensor operator()(const Tensor& x, const Context& context, KeyValueCache* cache = nullptr,
                    const Array& mask = {}) const;
  static void visit(auto& self, auto&& f) {
    f("qkv", self.qkv), f("output", self.output), f("q_norm", self.q_norm), f("k_norm", self.k_norm);
  }

 private:
  // q, k and v after norm and clipping
  Tensor normed(Tensor x, const Context& context) const;
};

}  // namespace moxie::nn
