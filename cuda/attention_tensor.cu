// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention_backward.cuh"
#include "cuda/attention_forward.cuh"
#include "cuda/attention_kernels.h"
#include "cuda/attention_launch.cuh"

namespace moxie::cuda {
namespace {

// Two blocks share a multiprocessor: while one is in its softmax, the other keeps the tensor cores busy.
template <int D> __global__ void __launch_bounds__(attention_threads, 2) forward_kernel(ForwardProblem p) {
  attention_forward<D>(p, block_index(), shared_address(dynamic_shared_memory()));
}

template <int D> __global__ void __launch_bounds__(attention_threads, 2) query_gradient_kernel(BackwardProblem p) {
  attention_query_gradient<D>(p, block_index(), shared_address(dynamic_shared_memory()));
}

template <int D> __global__ void __launch_bounds__(attention_threads, 2) key_gradient_kernel(BackwardProblem p) {
  attention_key_gradient<D>(p, block_index(), shared_address(dynamic_shared_memory()));
}

template <int D> void forward(int device, const Attention& p) {
  const ForwardProblem problem = forward_problem(p);
  launch_attention(device, "attention_forward", forward_kernel<D>, forward_blocks<D>(problem), attention_threads,
                   forward_shared_bytes<D>(), problem);
}

template <int D> void backward(int device, const AttentionBackward& p) {
  const Attention& f = p.forward;
  const int64_t rows = statistics_rows(f.q_length);
  const Scratch<RowStatistics<float>> statistics(device, f.batch * f.heads * rows);
  launch_statistics<bf16>(device, p, rows, statistics.data(), log2_e);
  const BackwardProblem problem = backward_problem(p, statistics.data());
  launch_attention(device, "attention_query_gradient", query_gradient_kernel<D>, query_gradient_blocks<D>(problem),
                   attention_threads, query_gradient_shared_bytes<D>(), problem);
  launch_attention(device, "attention_key_gradient", key_gradient_kernel<D>, key_gradient_blocks<D>(problem),
                   attention_threads, key_gradient_shared_bytes<D>(), problem);
}

using cuda::is_aligned;
bool is_aligned(int64_t stride) { return stride % 8 == 0; }
template <class... Places> bool are_aligned(Places... places) { return (is_aligned(places) && ...); }

}  // namespace

bool tensor_cores_take(const Attention& p) {
  return p.dtype == Dtype::bf16 && p.head_dim % 32 == 0 && p.head_dim <= 128 && p.mask == nullptr && p.softcap == 0 &&
         static_cast<float>(p.scale * log2_e) > 0 &&
         are_aligned(p.q, p.k, p.v, p.out, p.q_stride, p.k_stride, p.v_stride, p.out_stride, p.q_batch_stride,
                     p.k_batch_stride, p.v_batch_stride, p.out_batch_stride);
}

bool tensor_cores_take(const AttentionBackward& p) {
  return tensor_cores_take(p.forward) && are_aligned(p.dout, p.dout_stride, p.dout_batch_stride, p.dq, p.dk, p.dv);
}

void attention_on_tensor_cores(int device, const Attention& p) {
  switch (p.head_dim) {
    case 32: return forward<32>(device, p);
    case 64: return forward<64>(device, p);
    case 96: return forward<96>(device, p);
    default: return forward<128>(device, p);
  }
}

void attention_backward_on_tensor_cores(int device, const AttentionBackward& p) {
  switch (p.forward.head_dim) {
    case 32: return backward<32>(device, p);
    case 64: return backward<64>(device, p);
    case 96: return backward<96>(device, p);
    default: return backward<128>(device, p);
  }
}

}  // namespace moxie::cuda
