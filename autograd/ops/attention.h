// SPDX-License-Identifier: Apache-2.0
// Attention and the rotation of its queries and keys.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// Rotates the first `heads` heads of x [batch, time, heads_in_x, head_dim] by position (RoPE, half-split pairs i and
// i + head_dim / 2, angle = position * base^(-2 i / head_dim)); position of time t is first_position + t.
Tensor rope(const Tensor& x, int64_t heads, int64_t first_position = 0, double base = 10000);

// Which query sees which key: those that causal, window and mask all allow. One that sees none gives 0.
struct AttentionOptions {
  bool causal = true;  // query t sees keys up to its own place t + keys - time
  double scale = 0;    // 0: 1 / sqrt(head_dim)
  int64_t window = 0;  // 0: none; query t sees at most the last `window` keys up to its own place. Needs causal
  double softcap = 0;  // 0: none; a score s becomes softcap tanh(s / softcap)
  Array mask = {};     // u8 [time, keys] or [batch, heads, time, keys], where each but keys may be 1; 0 hides the key
  // 0: none; else queries and keys are turned as rope() with this base would turn them: key s by position
  // first_position + s, query t by that of its own place. Needs an even head_dim and no more queries than keys. On the
  // CPU it happens as attention reads them, and costs no pass over memory.
  double rope_base = 0;
  int64_t first_position = 0;
};
// softmax(scale q k^T) v per head. q [batch, time, heads, head_dim], k and v [batch, keys, kv_heads, head_dim], where
// kv_heads divides heads. Memory is linear in length; blocks of keys outside the window cost nothing.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {});
// The same reading q, k and v from one tensor qkv [batch, time, heads + 2 kv_heads, head_dim].
Tensor packed_attention(const Tensor& qkv, int64_t heads, int64_t kv_heads, const AttentionOptions& options = {});

}  // namespace moxie
