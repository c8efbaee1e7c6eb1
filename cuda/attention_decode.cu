// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention_decode.cuh"

#include "cuda/attention_kernels.h"
#include "cuda/attention_launch.cuh"

namespace moxie::cuda {
namespace {

template <class T, int Lanes, int Heads>
__global__ void __launch_bounds__(decode_threads) decode_part_kernel(DecodeProblem p) {
  attention_decode_part<T, Lanes, Heads>(p, block_index(), reinterpret_cast<float*>(dynamic_shared_memory()));
}

template <class T> __global__ void __launch_bounds__(decode_threads) decode_sum_kernel(DecodeProblem p) {
  attention_decode_sum<T>(p, block_index());
}

template <class T, int Lanes, int Heads> void decode(int device, const Attention& a) {
  DecodeProblem p = decode_problem<Heads>(a);
  const Scratch<float> partial(device, decode_partial_size(p));
  p.partial = partial.data();
  launch_attention(device, "attention_decode_part", decode_part_kernel<T, Lanes, Heads>, p.blocks, decode_threads,
                   decode_shared_bytes<T, Lanes, Heads>(), p);
  launch_attention(device, "attention_decode_sum", decode_sum_kernel<T>, a.batch * a.heads, decode_threads, 0, p);
}

template <class T, int Lanes> void decode(int device, const Attention& a) {
  a.heads == a.kv_heads ? decode<T, Lanes, 1>(device, a) : decode<T, Lanes, 4>(device, a);
}

template <class T> void decode(int device, const Attention& a) {
  const int64_t lanes = a.head_dim / pack_size<T>;
  if (lanes <= 4) return decode<T, 4>(device, a);
  if (lanes <= 8) return decode<T, 8>(device, a);
  lanes <= 16 ? decode<T, 16>(device, a) : decode<T, 32>(device, a);
}

template <class T> bool takes(const Attention& a) {
  constexpr int64_t elements = pack_size<T>;
  for (const int64_t stride :
       {a.head_dim, a.k_stride, a.v_stride, a.q_batch_stride, a.k_batch_stride, a.v_batch_stride})
    if (stride % elements != 0) return false;
  return a.head_dim <= warp_size * elements && is_aligned(a.q) && is_aligned(a.k) && is_aligned(a.v);
}

}  // namespace

bool decode_takes(const Attention& a) {
  constexpr int64_t least_keys = 512;
  if (a.q_length != 1 || a.k_length < least_keys || a.mask != nullptr || a.softcap != 0) return false;
  return a.dtype == Dtype::bf16 ? takes<bf16>(a) : a.dtype == Dtype::f32 && takes<float>(a);
}

void attention_decode(int device, const Attention& a) {
  a.dtype == Dtype::bf16 ? decode<bf16>(device, a) : decode<float>(device, a);
}

}  // namespace moxie::cuda
