// SPDX-License-Identifier: Apache-2.0
#include "moe/kernels/expert_ffn.h"

#include <limits>

#include "core/errors.h"
#include "cuda/expert_ffn_finish.cuh"
#include "cuda/grouped_gemm_launch.cuh"
#include "cuda/scratch.h"

namespace moxie::cuda {
namespace {

constexpr int threads = 256;

// into[slot[i]] = weights[i]: each slot belongs to one assignment.
__global__ void __launch_bounds__(threads)
    write_slot_weights(const float* weights, const int32_t* slot, float* into, int64_t slots) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i < slots) into[slot[i]] = weights[i];
}

// dweights[i] = the sum of slot[i]'s parts
__global__ void __launch_bounds__(threads)
    sum_parts(const float* parts, int64_t count, const int32_t* slot, float* dweights, int64_t slots) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= slots) return;
  float sum = 0;
  for (int64_t part = 0; part < count; ++part) sum += parts[part * slots + slot[i]];
  dweights[i] = sum;
}

dim3 blocks_for(int64_t slots) { return dim3(static_cast<unsigned>((slots + threads - 1) / threads)); }

GroupedOperands<bf16> operands_of(const moe::ExpertFfn& ffn) {
  if (ffn.width % chunk_size != 0 || ffn.hidden % chunk_size != 0)
    throw_logic_error("expert_ffn: width and hidden must be multiples of 8");
  GroupedOperands<bf16> operands{};
  operands.offsets = ffn.offsets;
  operands.groups = static_cast<int>(ffn.experts);
  return operands;
}

// C_e [m, n] (+)= a's rows of expert e transposed times b's
void weight_gradient(int device, const moe::ExpertFfn& ffn, const bf16* a, const int32_t* gather_a, int64_t m,
                     const bf16* b, const int32_t* gather_b, int64_t n, const moe::WeightGradient& gradient) {
  GroupedOperands<bf16> operands = operands_of(ffn);
  operands.m = static_cast<int>(m);
  operands.n = static_cast<int>(n);
  operands.a = a;
  operands.lda = m;
  operands.gather_a = gather_a;
  operands.b = b;
  operands.ldb = n;
  operands.gather_b = gather_b;
  if (gradient.dtype == Dtype::f32)
    grouped_tensor<Form::weight>(device, operands, static_cast<float*>(gradient.data), n, m * n, gradient.accumulate);
  else
    grouped_tensor<Form::weight>(device, operands, static_cast<bf16*>(gradient.data), n, m * n, gradient.accumulate);
}

}  // namespace

void expert_ffn(int device, const moe::ExpertFfn& ffn, bf16* z, bf16* rows) {
  if (ffn.slots == 0) return;
  const Scratch<bf16> a(device, ffn.slots * ffn.hidden);
  GroupedOperands<bf16> up = operands_of(ffn);
  up.n = static_cast<int>(ffn.hidden);
  up.k = static_cast<int>(ffn.width);
  up.a = ffn.x;
  up.lda = ffn.width;
  up.gather_a = ffn.token_of_slot;
  up.b = ffn.gate_up;
  up.ldb = ffn.width;
  up.stride_b = 2 * ffn.hidden * ffn.width;
  launch_tensor<Form::rows>(device, "expert FFN, up projection", up, StoreSwiGlu{z, a.data()});

  GroupedOperands<bf16> down = operands_of(ffn);
  down.n = static_cast<int>(ffn.width);
  down.k = static_cast<int>(ffn.hidden);
  down.a = a.data();
  down.lda = ffn.hidden;
  down.b = ffn.down;
  down.ldb = ffn.hidden;
  down.stride_b = ffn.width * ffn.hidden;
  grouped_tensor<Form::rows>(device, down, rows, ffn.width, 0, false);
}

void expert_ffn_backward(int device, const moe::ExpertFfn& ffn, const moe::ExpertFfnGradients& g) {
  const int64_t slots = ffn.slots, width = ffn.width, hidden = ffn.hidden;
  const cudaStream_t on = stream(device);
  const int64_t most_parts = (hidden + 63) / 64;  // no tile is narrower than 64 columns
  const Scratch<bf16> dz(device, slots * 2 * hidden), scaled(device, slots * hidden);
  const Scratch<float> slot_weights(device, slots), parts(device, most_parts * slots);
  int64_t part_cols = 1;
  if (slots > 0) {
    write_slot_weights<<<blocks_for(slots), threads, 0, on>>>(g.weights, g.slot_of_assignment, slot_weights.data(),
                                                              slots);
    check_launch(device, "write_slot_weights", {blocks_for(slots), dim3(threads)});
    GroupedOperands<bf16> back = operands_of(ffn);
    back.n = static_cast<int>(hidden);
    back.k = static_cast<int>(width);
    back.a = g.dy;
    back.lda = width;
    back.gather_a = ffn.token_of_slot;
    back.b = ffn.down;
    back.ldb = hidden;
    back.stride_b = width * hidden;
    part_cols = launch_tensor<Form::rows_backward>(
        device, "expert FFN, gradient of the up projection", back,
        StoreSwiGluBackward{g.z, slot_weights.data(), dz.data(), scaled.data(), parts.data(), slots});
  }
  if (g.dweights != nullptr && slots > 0) {
    const int64_t count = (hidden + part_cols - 1) / part_cols;
    sum_parts<<<blocks_for(slots), threads, 0, on>>>(parts.data(), count, g.slot_of_assignment, g.dweights, slots);
    check_launch(device, "sum_parts", {blocks_for(slots), dim3(threads)});
  }
  if (g.down.data != nullptr) {  // dW_down = dy^T (weight a)
    weight_gradient(device, ffn, g.dy, ffn.token_of_slot, width, scaled.data(), nullptr, hidden, g.down);
  }
  if (g.dx_rows != nullptr && slots > 0) {
    GroupedOperands<bf16> dx = operands_of(ffn);
    dx.n = static_cast<int>(width);
    dx.k = static_cast<int>(2 * hidden);
    dx.a = dz.data();
    dx.lda = 2 * hidden;
    dx.b = ffn.gate_up;
    dx.ldb = width;
    dx.stride_b = 2 * hidden * width;
    grouped_tensor<Form::rows_backward>(device, dx, g.dx_rows, width, 0, false);
  }
  if (g.gate_up.data != nullptr) {  // dW_gate_up = dz^T x
    weight_gradient(device, ffn, dz.data(), nullptr, 2 * hidden, ffn.x, ffn.token_of_slot, width, g.gate_up);
  }
}

}  // namespace moxie::cuda
