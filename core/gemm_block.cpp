// SPDX-License-Identifier: Apache-2.0
#include "core/gemm_block.h"

#include <algorithm>
#include <cstddef>
#include <new>

#include "core/check.h"
#ifdef MOXIE_ONEDNN
#include <dnnl.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else
#include <dlfcn.h>
#endif
#endif

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

#ifdef MOXIE_ONEDNN
// oneDNN 2.6 dies with SIGILL where AMX is advertised but the palette that describes its tiles (leaf 0x1D) is missing,
// as under some hypervisors: keep it below AMX there. Has an effect only before the first call of oneDNN.
void avoid_half_advertised_amx() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 24 & 1u) != 0;
  if (!amx) return;
  const bool palette = __get_cpuid_count(0x1D, 1, &a, &b, &c, &d) != 0 && (a | b | c | d) != 0;
  if (!palette) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
#endif
}

// oneDNN cuts work by the number of OpenMP threads, unless called inside a parallel region: allow it only one.
class OneThread final {
 public:
  OneThread() : saved_(most()) {
    if (saved_ > 1) set(1);
  }
  ~OneThread() {
    if (saved_ > 1) set(saved_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
#ifdef _OPENMP
  static int most() { return omp_in_parallel() != 0 ? 1 : omp_get_max_threads(); }
  static void set(int count) { omp_set_num_threads(count); }
#else
  // moxie was built without OpenMP, but oneDNN brings a runtime along.
  static int most() {
    static const auto function = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
    return function != nullptr ? function() : 1;
  }
  static void set(int count) {
    static const auto function = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
    if (function != nullptr) function(count);
  }
#endif
  int saved_;
};

void multiply_f32(const Gemm& g) {
  [[maybe_unused]] static const bool once = (avoid_half_advertised_amx(), true);
  const OneThread guard;
  const dnnl_status_t status = dnnl_sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, g.k, 1.0f,
                                          static_cast<const float*>(g.a), g.lda, static_cast<const float*>(g.b), g.ldb,
                                          g.accumulate ? 1.0f : 0.0f, static_cast<float*>(g.c), g.ldc);
  check_internal(status == dnnl_success, "gemm: dnnl_sgemm failed with status {} for m = {}, n = {}, k = {}",
                 static_cast<int>(status), g.m, g.n, g.k);
}
#else
void multiply_f32(const Gemm& g) { multiply_own_f32(g); }
#endif

void widen(const bf16* source, int64_t ld, int64_t rows, int64_t cols, float* target) {
  for (int64_t i = 0; i < rows; ++i) {
    const bf16* in = source + i * ld;
    float* out = target + i * cols;
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) out[j] = static_cast<float>(in[j]);
  }
}

void round_to_bf16(const float* source, int64_t rows, int64_t cols, bf16* target, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* in = source + i * cols;
    bf16* out = target + i * ld;
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) out[j] = bf16(in[j]);
  }
}

float* scratch_f32(Scratch use, int64_t count) {
  return static_cast<float*>(scratch(use, count * static_cast<int64_t>(sizeof(float))));
}

// Widens pieces of the operands to f32, sums in f32 and rounds once.
void multiply_bf16(const Gemm& g) {
  constexpr int64_t depth_most = 1024;
  const int64_t depth = std::min(g.k, depth_most);
  const bf16* a = static_cast<const bf16*>(g.a);
  const bf16* b = static_cast<const bf16*>(g.b);
  Gemm piece = g;
  piece.dtype = piece.out_dtype = Dtype::f32;
  float* wide_a = scratch_f32(Scratch::a, g.m * depth);
  float* wide_b = scratch_f32(Scratch::b, g.n * depth);
  piece.a = wide_a;
  piece.b = wide_b;
  const bool narrow_c = g.out_dtype == Dtype::bf16;
  if (narrow_c) {
    piece.c = scratch_f32(Scratch::c, g.m * g.n);
    piece.ldc = g.n;
    if (g.accumulate) widen(static_cast<const bf16*>(g.c), g.ldc, g.m, g.n, static_cast<float*>(piece.c));
  }
  for (int64_t p = 0; p < g.k; p += depth_most) {
    piece.k = std::min(depth_most, g.k - p);
    piece.lda = g.transpose_a ? g.m : piece.k;
    piece.ldb = g.transpose_b ? piece.k : g.n;
    if (g.transpose_a) {
      widen(a + p * g.lda, g.lda, piece.k, g.m, wide_a);
    } else {
      widen(a + p, g.lda, g.m, piece.k, wide_a);
    }
    if (g.transpose_b) {
      widen(b + p, g.ldb, g.n, piece.k, wide_b);
    } else {
      widen(b + p * g.ldb, g.ldb, piece.k, g.n, wide_b);
    }
    multiply_f32(piece);
    piece.accumulate = true;
  }
  if (narrow_c) round_to_bf16(static_cast<const float*>(piece.c), g.m, g.n, static_cast<bf16*>(g.c), g.ldc);
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
