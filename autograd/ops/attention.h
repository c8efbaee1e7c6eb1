// SPDX-License-Identifier: Apache-2.0
// Attention and the rotation of its queries and keys.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// Rotates the first `heads` heads of x [batch, time, heads_in_x, head_dim] by position (RoPE, half-split pairs i and
// i + head_dim / 2, angle = position * base^(-2 i / head_dim)); position of time t is first_position + t.
Tensor rope(const Tensor& x, int64_t heads, int64_t first_position = 0, double base = 10000);
struct AttentionOptions {
  bool causal = true;
  double scale = 0;  // 0: 1 / sqrt(head_dim)
};
// softmax(scale q k^T) v per head. q [batch, time, heads, head_dim], k and v [batch, keys, kv_heads, head_dim], where
// kv_heads divides heads. Causal: query i sees keys up to i + keys - time. Memory is linear in length.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, AttentionOptions options = {});
// The same reading q, k and v from one tensor qkv [batch, time, heads + 2 kv_heads, head_dim].
Tensor packed_attention(const Tensor& qkv, int64_t heads, int64_t kv_heads, AttentionOptions options = {});

}  // namespace moxie
