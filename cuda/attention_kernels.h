// SPDX-License-Identifier: Apache-2.0
// Internal to cuda/attention*: the families of kernels among which attention() chooses, each in a file of its own.
#pragma once
#include "core/attention.h"

namespace moxie::cuda {

// True where the tensor cores' kernels take the problem: bf16, a head_dim of 32, 64, 96 or 128, no mask, no soft cap, a
// positive scale, and everything aligned to 16 bytes.
bool tensor_cores_take(const Attention& problem);
bool tensor_cores_take(const AttentionBackward& problem);
void attention_on_tensor_cores(int device, const Attention& problem);
void attention_backward_on_tensor_cores(int device, const AttentionBackward& problem);

// True where the kernels for Hopper's warpgroups take the problem: what the tensor cores' take, with a head_dim of 64
// or 128, on a GPU that has these instructions.
bool warpgroups_take(int device, const Attention& problem);
bool warpgroups_take(int device, const AttentionBackward& problem);
void attention_on_warpgroups(int device, const Attention& problem);
void attention_backward_on_warpgroups(int device, const AttentionBackward& problem);

// True where the kernels for one query per head take the problem, which divide many keys among blocks: f32 or bf16, no
// mask, no soft cap, a head_dim of at most 128 (bf16: 256), and everything aligned to 16 bytes.
bool decode_takes(const Attention& problem);
void attention_decode(int device, const Attention& problem);

// Any problem.
void attention_plain(int device, const Attention& problem);
void attention_backward_plain(int device, const AttentionBackward& problem);

}  // namespace moxie::cuda
