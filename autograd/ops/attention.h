// SPDX-License-Identifier: Apache-2.0
// Attention and the rotation of its queries and keys.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// Rotates the first `heads` heads of x [batch, time, heads_in_x, head_dim] by position (RoPE, half-split pairs i and
// i + head_dim / 2, angle = position * base^(-2 i / head_dim)); position of time t is first_position + t.
// On the CPU an x that is handed over (std::move, or a temporary) and shares its numbers with nobody is turned in
// place.
Tensor rope(Tensor x, int64_t heads, int64_t first_position = 0, double base = 10000);

// Which query sees which key: those that causal, window and mask all allow. One that sees none gives 0.
struct AttentionOptions {
  bool causal = true;  // query t sees keys up to its own place t + keys - time
  double scale = 0;    // 0: 1 / sqrt(head_dim)
  int64_t window = 0;  // 0: none; query t sees at most the last `window` keys up to its own place. Needs causal
  double softcap = 0;  // 0: none; a score s becomes softcap tanh(s / softcap)
  Array mask = {};     // u8 [time, keys] or [batch, heads, time, keys], where each but keys may be 1; 0 hides the key
};
// softmax(scale q k^T) v per head. q [batch, time, heads, head_dim], k and v [batch, keys, kv_heads, head_dim], where
// kv_heads divides heads. Memory is linear in length; blocks of keys outside the window cost nothing.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {});
// The same reading q, k and v from one tensor qkv [batch, time, heads + 2 kv_heads, head_dim].
Tensor packed_attention(const Tensor& qkv, int64_t heads, int64_t kv_heads, const AttentionOptions& options = {});

}  // namespace moxie
