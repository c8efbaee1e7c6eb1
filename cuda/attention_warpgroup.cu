// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention_backward_warpgroup.cuh"
#include "cuda/attention_forward_warpgroup.cuh"
#include "cuda/attention_kernels.h"
#include "cuda/attention_launch.cuh"

namespace moxie::cuda {
namespace {

template <int D>
__global__ void __launch_bounds__(attention_warpgroup_threads, 1) warpgroup_forward_kernel(ForwardProblem p) {
  attention_forward_warpgroup<D>(p, block_index(), shared_address(dynamic_shared_memory()));
}

template <int D>
__global__ void __launch_bounds__(attention_warpgroup_threads, 1) warpgroup_query_gradient_kernel(BackwardProblem p) {
  attention_query_gradient_warpgroup<D>(p, block_index(), shared_address(dynamic_shared_memory()));
}

template <int D>
__global__ void __launch_bounds__(attention_warpgroup_threads, 1) warpgroup_key_gradient_kernel(BackwardProblem p) {
  attention_key_gradient_warpgroup<D>(p, block_index(), shared_address(dynamic_shared_memory()));
}

template <int D> void forward(int device, const Attention& p) {
  const ForwardProblem problem = forward_problem(p);
  launch_attention(device, "attention_forward_warpgroup", warpgroup_forward_kernel<D>,
                   warpgroup_forward_blocks(problem), attention_warpgroup_threads, warpgroup_forward_shared_bytes<D>(),
                   problem);
}

template <int D> void backward(int device, const AttentionBackward& p) {
  const Attention& f = p.forward;
  const int64_t rows = statistics_rows(f.q_length);
  const Scratch<RowStatistics<float>> statistics(device, f.batch * f.heads * rows);
  launch_statistics<bf16>(device, p, rows, statistics.data(), log2_e);
  const BackwardProblem problem = backward_problem(p, statistics.data());
  launch_attention(device, "attention_query_gradient_warpgroup", warpgroup_query_gradient_kernel<D>,
                   warpgroup_query_gradient_blocks(problem), attention_warpgroup_threads,
                   warpgroup_query_gradient_shared_bytes<D>(), problem);
  launch_attention(device, "attention_key_gradient_warpgroup", warpgroup_key_gradient_kernel<D>,
                   warpgroup_key_gradient_blocks(problem), attention_warpgroup_threads,
                   warpgroup_key_gradient_shared_bytes<D>(), problem);
}

// True where the kernels were compiled for this GPU's matrix instructions: they are those of compute capability 9.0
// alone, and code that the driver made for it from another's PTX lacks them.
bool compiled_for(int device) {
  if (properties(device).capability != 90) return false;
  static const bool compiled = [] {
    cudaFuncAttributes attributes;
    MOXIE_CUDA_CHECK(cudaFuncGetAttributes(&attributes, warpgroup_forward_kernel<128>));
    return attributes.ptxVersion >= 90;
  }();
  return compiled;
}

bool takes(int device, const Attention& p) { return (p.head_dim == 64 || p.head_dim == 128) && compiled_for(device); }

}  // namespace

bool warpgroups_take(int device, const Attention& p) { return tensor_cores_take(p) && takes(device, p); }

bool warpgroups_take(int device, const AttentionBackward& p) {
  return tensor_cores_take(p) && takes(device, p.forward);
}

void attention_on_warpgroups(int device, const Attention& p) {
  p.head_dim == 64 ? forward<64>(device, p) : forward<128>(device, p);
}

void attention_backward_on_warpgroups(int device, const AttentionBackward& p) {
  p.forward.head_dim == 64 ? backward<64>(device, p) : backward<128>(device, p);
}

}  // namespace moxie::cuda
