// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "cuda/attention_kernels.h"
#include "cuda/attention_launch.cuh"
#include "cuda/attention_plain_backward.cuh"
#include "cuda/attention_plain_forward.cuh"

namespace moxie::cuda {
namespace {

// Where one block does not need all registers, two can hide each other's waits.
template <class T> inline constexpr int plain_blocks_at_once = sizeof(Accumulator<T>) == 4 ? 2 : 1;

template <class T, int Chunks>
__global__ void __launch_bounds__(plain_threads, plain_blocks_at_once<T>) plain_forward_kernel(Attention p) {
  attention_plain_forward<T, Chunks>(p, block_index(), dynamic_shared_memory());
}

template <class T, int Chunks>
__global__ void __launch_bounds__(plain_threads) plain_query_kernel(AttentionBackward p, const void* statistics) {
  attention_plain_query_gradient<T, Chunks>(p, statistics, block_index(), dynamic_shared_memory());
}

template <class T, int Chunks>
__global__ void __launch_bounds__(plain_threads) plain_key_kernel(AttentionBackward p, const void* statistics) {
  attention_plain_key_gradient<T, Chunks>(p, statistics, block_index(), dynamic_shared_memory());
}

template <class T, int Chunks> void forward(int device, const Attention& p) {
  launch_attention(device, "attention_plain_forward", plain_forward_kernel<T, Chunks>,
                   plain_blocks<Chunks>(p.q_length, p.batch, p.heads, p.head_dim), plain_threads,
                   PlainMemory<Accumulator<T>>::bytes, p);
}

template <class T, int Chunks> void backward(int device, const AttentionBackward& p) {
  const Attention& f = p.forward;
  constexpr uint32_t bytes = PlainMemory<Accumulator<T>>::bytes;
  const Scratch<RowStatistics<Accumulator<T>>> statistics(device, f.batch * f.heads * f.q_length);
  launch_statistics<T>(device, p, f.q_length, statistics.data(), 1);
  launch_attention(device, "attention_plain_query_gradient", plain_query_kernel<T, Chunks>,
                   plain_blocks<Chunks>(f.q_length, f.batch, f.heads, f.head_dim), plain_threads, bytes, p,
                   static_cast<const void*>(statistics.data()));
  launch_attention(device, "attention_plain_key_gradient", plain_key_kernel<T, Chunks>,
                   plain_blocks<Chunks>(f.k_length, f.batch, f.kv_heads, f.head_dim), plain_threads, bytes, p,
                   static_cast<const void*>(statistics.data()));
}

// Calls f with a value of the element type and the number of chunks of 64 columns that one block computes.
template <class F> void with_form(const Attention& p, F f) {
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  const bool narrow = p.head_dim <= plain_tile;
  if (p.dtype == Dtype::f64) return narrow ? f(double{}, one) : f(double{}, two);
  if (p.dtype == Dtype::f32) return narrow ? f(float{}, one) : f(float{}, two);
  narrow ? f(bf16{}, one) : f(bf16{}, two);
}

}  // namespace

void attention_plain(int device, const Attention& p) {
  with_form(p, [&](auto type, auto form) { forward<decltype(type), form()>(device, p); });
}

void attention_backward_plain(int device, const AttentionBackward& p) {
  with_form(p.forward, [&](auto type, auto form) { backward<decltype(type), form()>(device, p); });
}

}  // namespace moxie::cuda
