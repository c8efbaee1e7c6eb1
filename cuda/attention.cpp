// SPDX-License-Identifier: Apache-2.0
#include "core/attention.h"

#include "core/check.h"
#include "cuda/attention_kernels.h"
#include "cuda/attention_visibility.cuh"

namespace moxie::cuda {
namespace {

void check_size(const Attention& p, const char* op) {
  check(p.q_length < attention_length_limit && p.k_length < attention_length_limit,
        "{}: on CUDA lengths must be below {}, got q {}, k {}", op, attention_length_limit, p.q_length, p.k_length);
  check(p.batch * p.heads < attention_length_limit && p.head_dim < attention_length_limit,
        "{}: on CUDA batch * heads and head_dim must be below {}, got batch {}, heads {}, head_dim {}", op,
        attention_length_limit, p.batch, p.heads, p.head_dim);
}

}  // namespace

void attention(int device, const Attention& p) {
  check_size(p, "attention");
  if (decode_takes(p)) return attention_decode(device, p);
  if (warpgroups_take(device, p)) return attention_on_warpgroups(device, p);
  tensor_cores_take(p) ? attention_on_tensor_cores(device, p) : attention_plain(device, p);
}

void attention_backward(int device, const AttentionBackward& p) {
  check_size(p.forward, "attention_backward");
  if (warpgroups_take(device, p)) return attention_backward_on_warpgroups(device, p);
  tensor_cores_take(p) ? attention_backward_on_tensor_cores(device, p) : attention_backward_plain(device, p);
}

}  // namespace moxie::cuda
