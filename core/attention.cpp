// SPDX-License-Identifier: Apache-2.0
#include "core/attention.h"

#include <cmath>

#include "core/attention_cpu.h"
#include "core/check.h"

namespace moxie {

namespace cuda {
// Defined in cuda/.
void attention(const Attention& problem);
void attention_backward(const AttentionBackward& problem);
}  // namespace cuda

namespace {

void check_problem(const Attention& p, const char* op) {
  check(is_float(p.dtype), "{}: dtype must be f64, f32 or bf16, got {}", op, name_of(p.dtype));
  check(p.batch >= 0 && p.q_length >= 0 && p.k_length >= 0, "{}: sizes must not be negative, batch {}, q {}, k {}", op,
        p.batch, p.q_length, p.k_length);
  check(p.heads >= 1 && p.kv_heads >= 1 && p.heads % p.kv_heads == 0,
        "{}: heads must be a multiple of kv_heads, got heads = {}, kv_heads = {}", op, p.heads, p.kv_heads);
  check(p.head_dim >= 1, "{}: head_dim must be at least 1, got {}", op, p.head_dim);
  const int64_t width = p.heads * p.head_dim, kv_width = p.kv_heads * p.head_dim;
  check((p.q_length <= 1 || (p.q_stride >= width && p.out_stride >= width)) &&
            (p.k_length <= 1 || (p.k_stride >= kv_width && p.v_stride >= kv_width)),
        "{}: strides must hold all heads of a position, q {} and out {} (at least {}), k {} and v {} (at least {})", op,
        p.q_stride, p.out_stride, width, p.k_stride, p.v_stride, kv_width);
  check(p.window >= 0, "{}: window must not be negative, got {}", op, p.window);
  check(p.window == 0 || p.causal, "{}: a window of {} keys needs causal = true", op, p.window);
  check(p.softcap >= 0 && std::isfinite(p.softcap), "{}: softcap must be 0 or positive and finite, got {}", op,
        p.softcap);
  check((p.cosine == nullptr) == (p.sine == nullptr), "{}: cosine and sine go together", op);
  check(p.cosine == nullptr || (p.head_dim % 2 == 0 && p.q_length <= p.k_length),
        "{}: rope needs an even head_dim and a key for each query's place, got head_dim {}, {} queries and {} keys", op,
        p.head_dim, p.q_length, p.k_length);
  check(p.mask_batch_stride >= 0 && p.mask_head_stride >= 0 && p.mask_stride >= 0,
        "{}: strides of the mask must not be negative, got batch {}, head {}, query {}", op, p.mask_batch_stride,
        p.mask_head_stride, p.mask_stride);
}

#ifdef MOXIE_CUDA
void check_not_turned(const Attention& p, const char* op) {
  check(p.cosine == nullptr, "{}: turns queries and keys on the CPU alone; on a GPU call rope before", op);
}
#endif

// Calls f with a value of the problem's element type.
template <class F> void with_type(Dtype dtype, F f) {
  if (dtype == Dtype::f64) return f(double{});
  if (dtype == Dtype::f32) return f(float{});
  f(bf16{});
}

}  // namespace

void attention(Device device, const Attention& p) {
  check_problem(p, "attention");
  if (p.batch == 0 || p.q_length == 0) return;
  if (device.is_cpu()) {
    return with_type(p.dtype, [&](auto type) {
      using T = decltype(type);
      const bool few = p.q_length <= attention_cpu::decode_queries && p.cosine == nullptr;
      few ? attention_cpu::decode<T>(p) : attention_cpu::forward<T>(p);
    });
  }
#ifdef MOXIE_CUDA
  check_not_turned(p, "attention");
  cuda::attention(device.index, p);
#else
  throw_built_without_cuda();
#endif
}

void attention_backward(Device device, const AttentionBackward& p) {
  check_problem(p.forward, "attention_backward");
  check(p.forward.q_length <= 1 || p.dout_stride >= p.forward.heads * p.forward.head_dim,
        "attention_backward: the stride of dout must hold all heads of a position, got {}, at least {}", p.dout_stride,
        p.forward.heads * p.forward.head_dim);
  if (p.forward.batch == 0) return;
  if (device.is_cpu()) {
    return with_type(p.forward.dtype, [&](auto type) { attention_cpu::backward<decltype(type)>(p); });
  }
#ifdef MOXIE_CUDA
  check_not_turned(p.forward, "attention_backward");
  cuda::attention_backward(device.index, p);
#else
  throw_built_without_cuda();
#endif
}

}  // namespace moxie
