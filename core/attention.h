// SPDX-License-Identifier: Apache-2.0
// The attention seam: softmax(mask(cap(scale * q k^T))) v per head, forward and backward, without ever storing the
// scores.
#pragma once
#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"

namespace moxie {

// What one call of attention() reads and writes. Element (b, t, h, i) of q is
// q[b * q_batch_stride + t * q_stride + h * head_dim + i], and likewise for k, v (with kv_heads) and out, so that
// [batch, time, heads, head_dim] and a packed [batch, time, q | k | v] both fit. Strides count elements.
struct Attention {
  Dtype dtype = Dtype::f32;  // of q, k, v and out: f64, f32 or bf16
  int64_t batch = 0;
  int64_t heads = 0;     // a multiple of kv_heads
  int64_t kv_heads = 0;  // head h reads key/value head h / (heads / kv_heads)
  int64_t q_length = 0;
  int64_t k_length = 0;
  int64_t head_dim = 0;
  double scale = 1;
  bool causal = true;  // query t sees the keys up to t + k_length - q_length, so that a key/value cache works
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  int64_t q_batch_stride = 0, k_batch_stride = 0, v_batch_stride = 0;
  void* out = nullptr;
  int64_t out_stride = 0, out_batch_stride = 0;
  void* lse = nullptr;  // [batch, heads, q_length], log-sum-exp of the scores seen; f64 for f64, otherwise f32
  int64_t window = 0;   // 0: none; query t sees at most the last `window` keys up to its own place
                        // t + k_length - q_length; needs causal
  double softcap = 0;   // 0: none; a scaled score s becomes softcap * tanh(s / softcap) before masking
  // null: none; nonzero where a query may see a key, which causal and window then narrow. Element (b, h, t, s) is at
  // b * mask_batch_stride + h * mask_head_stride + t * mask_stride + s; a stride of 0 repeats.
  const uint8_t* mask = nullptr;
  int64_t mask_batch_stride = 0, mask_head_stride = 0, mask_stride = 0;
  // null: none; [k_length, head_dim / 2] in the type of lse: key s is turned on its way in by rope's angles of row s
  // (core/kernels/attention/rope.h), query t by those of key t + k_length - q_length, and their gradients back. On the
  // CPU alone.
  const void* cosine = nullptr;
  const void* sine = nullptr;
};

// What one call of attention_backward() reads and writes; out and lse of `forward` hold what attention() wrote.
// dq, dk and dv have the strides of q, k and v.
struct AttentionBackward {
  Attention forward;
  const void* dout = nullptr;
  int64_t dout_stride = 0, dout_batch_stride = 0;
  void* dq = nullptr;
  void* dk = nullptr;
  void* dv = nullptr;
};

// Writes out = softmax(scale * q k^T) v and lse, head by head. A query that sees no key gets out = 0 and lse = -inf.
// On the CPU each thread works in about 16 KiB and 2.2 KiB * head_dim of scratch memory for f32, whatever the lengths;
// by pairs of bf16 (core/attention_pairs.h) in 24 KiB and 2.8 KiB * head_dim.
// On CUDA it takes no memory beside its results.
// Throws std::invalid_argument where sizes, strides or the dtype are impossible.
void attention(Device device, const Attention& problem);

// Writes (does not add to) dq, dk and dv; a query that sees no key contributes nothing.
// On the CPU each thread works in about 40 KiB and 1.3 KiB * head_dim for f32, and one task is one key/value head of
// one batch element; bf16, and a head_dim that is no multiple of the vector width, take k_length * head_dim * 4 numbers
// more for keys, values and their sums, and with rope's angles the keys alone half of that. On CUDA it takes 8 bytes
// (f64: 16) for each query of each head. Throws std::invalid_argument as attention() does.
void attention_backward(Device device, const AttentionBackward& problem);

#ifdef MOXIE_CUDA
namespace cuda {
void attention(int device, const Attention& problem);
void attention_backward(int device, const AttentionBackward& problem);
}  // namespace cuda
#endif

}  // namespace moxie
