// SPDX-License-Identifier: Apache-2.0
#include "core/gemm_block.h"

#include <algorithm>
#include <cstddef>
#include <new>

namespace moxie::gemm_detail {
namespace {

struct Buffer {
  void* data = nullptr;
  int64_t bytes = 0;
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { ::operator delete (data, std::align_val_t{64}); }
};

void widen(const bf16* source, int64_t ld, int64_t rows, int64_t cols, float* target, int64_t target_ld) {
  for (int64_t i = 0; i < rows; ++i) {
    const bf16* in = source + i * ld;
    float* out = target + i * target_ld;
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) out[j] = static_cast<float>(in[j]);
  }
}

void round_to_bf16(const float* source, int64_t rows, int64_t cols, bf16* target, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* in = source + i * cols;
    bf16* out = target + i * ld;
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) assign(out[j], in[j]);
  }
}

// Widens pieces of the operands to f32; C is f32.
void multiply_widened(const Gemm& g) {
  const int64_t depth_most = std::min(g.k, block_depth);
  const bf16* a = static_cast<const bf16*>(g.a);
  const bf16* b = static_cast<const bf16*>(g.b);
  Gemm piece = g;
  piece.dtype = Dtype::f32;
  piece.lda = (g.transpose_a ? g.m : depth_most) + padding;
  piece.ldb = (g.transpose_b ? depth_most : g.n) + padding;
  float* wide_a = scratch_f32(Scratch::a, piece.lda * (g.transpose_a ? depth_most : g.m));
  float* wide_b = scratch_f32(Scratch::b, piece.ldb * (g.transpose_b ? g.n : depth_most));
  piece.a = wide_a;
  piece.b = wide_b;
  for (int64_t p = 0; p < g.k; p += depth_most) {
    piece.k = std::min(depth_most, g.k - p);
    if (g.transpose_a) {
      widen(a + p * g.lda, g.lda, piece.k, g.m, wide_a, piece.lda);
    } else {
      widen(a + p, g.lda, g.m, piece.k, wide_a, piece.lda);
    }
    if (g.transpose_b) {
      widen(b + p, g.ldb, g.n, piece.k, wide_b, piece.ldb);
    } else {
      widen(b + p * g.ldb, g.ldb, piece.k, g.n, wide_b, piece.ldb);
    }
    multiply_f32(piece);
    piece.accumulate = true;
  }
}

// Sums in f32 and rounds once.
void multiply_bf16(const Gemm& g) {
  Gemm wide = g;
  wide.out_dtype = Dtype::f32;
  const bool narrow_c = g.out_dtype == Dtype::bf16;
  if (narrow_c) {
    float* c = scratch_f32(Scratch::c, g.m * g.n);
    if (g.accumulate) widen(static_cast<const bf16*>(g.c), g.ldc, g.m, g.n, c, g.n);
    wide.c = c;
    wide.ldc = g.n;
  }
  if (!multiply_bf16_natively(wide)) multiply_widened(wide);
  if (narrow_c) round_to_bf16(static_cast<const float*>(wide.c), g.m, g.n, static_cast<bf16*>(g.c), g.ldc);
}

template <class T> void fill_zeros(void* c, int64_t ldc, int64_t m, int64_t n) {
  T* out = static_cast<T*>(c);
  for (int64_t i = 0; i < m; ++i) std::fill_n(out + i * ldc, n, T(0));
}

}  // namespace

void* scratch(Scratch use, int64_t bytes) {
  thread_local Buffer buffers[static_cast<size_t>(Scratch::count)];
  Buffer& buffer = buffers[static_cast<size_t>(use)];
  if (buffer.bytes < bytes) {
    ::operator delete (buffer.data, std::align_val_t{64});
    buffer.data = nullptr;
    buffer.bytes = 0;
    buffer.data = ::operator new (static_cast<size_t>(bytes), std::align_val_t{64});
    buffer.bytes = bytes;
  }
  return buffer.data;
}

float* scratch_f32(Scratch use, int64_t count) {
  return static_cast<float*>(scratch(use, count * static_cast<int64_t>(sizeof(float))));
}

void multiply_block(const Gemm& block) {
  if (block.m == 0 || block.n == 0) return;
  if (block.k == 0) {
    if (block.accumulate) return;
    switch (block.out_dtype) {
      case Dtype::f64: return fill_zeros<double>(block.c, block.ldc, block.m, block.n);
      case Dtype::f32: return fill_zeros<float>(block.c, block.ldc, block.m, block.n);
      default: return fill_zeros<bf16>(block.c, block.ldc, block.m, block.n);
    }
  }
  switch (block.dtype) {
    case Dtype::f64: return multiply_own_f64(block);
    case Dtype::f32: return multiply_f32(block);
    default: return multiply_bf16(block);
  }
}

}  // namespace moxie::gemm_detail
