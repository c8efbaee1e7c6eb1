// SPDX-License-Identifier: Apache-2.0
// Internal to cuda/attention*.cu: launches.
#pragma once
#include "cuda/attention_statistics.cuh"
#include "cuda/runtime.h"
#include "cuda/scratch.h"

namespace moxie::cuda {

// Queues kernel(arguments..) with `blocks` blocks on the device's stream.
template <class... Parameters, class... Arguments>
void launch_attention(int device, const char* name, void (*kernel)(Parameters...), int64_t blocks, int threads,
                      uint32_t shared_bytes, const Arguments&... arguments) {
  if (blocks == 0) return;
  const cudaStream_t queue = stream(device);
  if (shared_bytes > 48 * 1024) {
    MOXIE_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes, queue>>>(arguments...);
  check_launch(device, name, {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)), shared_bytes});
}

template <class T> __global__ void __launch_bounds__(statistics_threads) statistics_kernel(StatisticsProblem<T> p) {
  attention_statistics(p, block_index());
}

// Queues what fills [batch * heads, rows] statistics, rows >= q_length.
template <class T>
void launch_statistics(int device, const AttentionBackward& p, int64_t rows, void* statistics,
                       Accumulator<T> lse_factor) {
  const StatisticsProblem<T> problem = statistics_problem<T>(p, rows, statistics, lse_factor);
  launch_attention(device, "attention_statistics", statistics_kernel<T>, statistics_blocks(problem), statistics_threads,
                   0, problem);
}

}  // namespace moxie::cuda
