// SPDX-License-Identifier: Apache-2.0
// Blocks by oneDNN, on the calling thread alone: f32 by its sgemm, with operands brought into the form that it is
// fastest on, and bf16 where the processor has instructions for it.
#include "core/gemm_block.h"

#ifdef MOXIE_ONEDNN
#include <dnnl.hpp>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else
#include <dlfcn.h>
#endif

#include <algorithm>
#include <new>
#include <optional>

#include "core/check.h"
#include "core/simd.h"

namespace moxie::gemm_detail {
namespace {

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

void prepare_onednn() { [[maybe_unused]] static const bool once = (avoid_half_advertised_amx(), true); }

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

void call(const Gemm& g) {
  const dnnl_status_t status = dnnl_sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, g.k, 1.0f,
                                          static_cast<const float*>(g.a), g.lda, static_cast<const float*>(g.b), g.ldb,
                                          g.accumulate ? 1.0f : 0.0f, static_cast<float*>(g.c), g.ldc);
  check_internal(status == dnnl_success, "gemm: dnnl_sgemm failed with status {} for m = {}, n = {}, k = {}",
                 static_cast<int>(status), g.m, g.n, g.k);
}

void copy(const float* source, int64_t ld, int64_t rows, int64_t cols, float* target, int64_t target_ld) {
  for (int64_t i = 0; i < rows; ++i) std::copy_n(source + i * ld, cols, target + i * target_ld);
}

// Copies cost about 1 / 100 of the products at this size and less beyond.
constexpr int64_t reuse_least = 64;
// Columns of B that pay for the transpose of A.
constexpr int64_t reuse_a_transposed = 128;
// oneDNN's kernels of 512 bits multiply by B^T a twentieth more slowly than by B: rows of A that pay for a copy then.
constexpr bool slow_b_transposed = simd::vector_bytes == 64;
constexpr int64_t reuse_b_transposed = 128;
// Below this leading dimension oneDNN reads B in place as fast as from a copy.
constexpr int64_t wide = 512;

// Whether moxie's own kernel is done before a call of oneDNN has begun: after a quarter of its time on the average of
// such sizes, level at 32 x 32 x 32. A single column, of which it fills up a vector with zeros, is oneDNN's.
bool is_small(const Gemm& g) {
  constexpr int64_t most = 32;
  return g.m <= most && g.n <= most && g.k <= most && g.n > 1;
}

// Whether the processor multiplies bf16 and oneDNN may use it; elsewhere oneDNN emulates it, several times slower than
// f32.
bool has_bf16_instructions() {
#if defined(__x86_64__)
  constexpr auto needed = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return __builtin_cpu_supports("avx512bf16") != 0 &&
         (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & needed) == needed;
#else
  return false;
#endif
}

// oneDNN's products of bf16 matrices of any size, f32 as a result, for the calling thread.
class Bf16Products final {
 public:
  void multiply(const Gemm& g) {
    const dnnl::memory a(matrix(g.m, g.k, bf16_type, g.transpose_a, g.lda), engine_, const_cast<void*>(g.a)),
        b(matrix(g.k, g.n, bf16_type, g.transpose_b, g.ldb), engine_, const_cast<void*>(g.b)),
        c(matrix(g.m, g.n, dnnl::memory::data_type::f32, false, g.ldc), engine_, g.c);
    product(g).execute(stream_, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream_.wait();
  }

 private:
  static constexpr auto bf16_type = dnnl::memory::data_type::bf16;

  static dnnl::memory::desc matrix(int64_t rows, int64_t cols, dnnl::memory::data_type type, bool transposed,
                                   int64_t leading) {
    return {{rows, cols}, type, transposed ? dnnl::memory::dims{1, leading} : dnnl::memory::dims{leading, 1}};
  }

  // The product of the form that g has, whatever its sizes.
  dnnl::matmul& product(const Gemm& g) {
    std::optional<dnnl::matmul>& product = products_[g.transpose_a][g.transpose_b][g.accumulate];
    if (product) return *product;
    constexpr int64_t any = DNNL_RUNTIME_DIM_VAL;
    const dnnl::memory::desc a = matrix(any, any, bf16_type, g.transpose_a, any),
                             b = matrix(any, any, bf16_type, g.transpose_b, any),
                             c = matrix(any, any, dnnl::memory::data_type::f32, false, any);
    dnnl::primitive_attr attributes;
    if (g.accumulate) {
      dnnl::post_ops add;
      add.append_sum(1.0f);
      attributes.set_post_ops(add);
    }
#if DNNL_VERSION_MAJOR >= 3
    return product.emplace(dnnl::matmul::primitive_desc(engine_, a, b, c, attributes));
#else
    return product.emplace(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, c), attributes, engine_));
#endif
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::optional<dnnl::matmul> products_[2][2][2];
};

}  // namespace

bool multiplies_bf16() {
  prepare_onednn();
  static const bool available = has_bf16_instructions();
  return available;
}

bool multiply_bf16_natively(const Gemm& g) {
  constexpr int64_t least = 64 * 64 * 64;  // a call of oneDNN costs 3 us, as much as widening and f32 at this size
  if (g.m * g.n * g.k < least) return false;
  if (!multiplies_bf16()) return false;
  const OneThread guard;
  try {
    thread_local Bf16Products products;
    products.multiply(g);
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory) throw std::bad_alloc();
    check_internal(false, "gemm: oneDNN failed with {} for bf16 and m = {}, n = {}, k = {}", error.what(), g.m, g.n,
                   g.k);
  }
  return true;
}

// oneDNN's kernels for small blocks read B row by row in place, which is slow for distant rows (by half for rows of
// 1024 and more).
bool packs_b(const Gemm& g) {
  if (is_small(g)) return false;
  if (g.transpose_b) return slow_b_transposed && g.m >= reuse_b_transposed && g.n >= 16;
  return g.ldb >= wide && g.ldb != g.n + padding && g.m >= reuse_least;
}

void pack_b(const Gemm& g, float* packed) {
  const auto* b = static_cast<const float*>(g.b);
  const int64_t row = g.n + padding;
  g.transpose_b ? simd::transpose<float>(b, g.ldb, packed, row, g.n, g.k) : copy(b, g.ldb, g.k, g.n, packed, row);
}

void multiply_f32(const Gemm& g) {
  if (is_small(g)) return multiply_own_f32(g);
  prepare_onednn();
  const OneThread guard;
  // Its kernels for a transposed A are slower by a sixth.
  const bool transpose_a = g.transpose_a && g.n >= reuse_a_transposed && g.m >= 8 && g.k >= reuse_least;
  const bool pack = packs_b(g);
  if (!transpose_a && !pack) return call(g);

  const int64_t depth_most = std::min(g.k, block_depth);
  const float* a = static_cast<const float*>(g.a);
  const float* b = static_cast<const float*>(g.b);
  Gemm piece = g;
  for (int64_t p = 0; p < g.k; p += depth_most) {
    piece.k = std::min(depth_most, g.k - p);
    const float* from_a = g.transpose_a ? a + p * g.lda : a + p;
    const float* from_b = g.transpose_b ? b + p : b + p * g.ldb;
    piece.a = from_a;
    piece.b = from_b;
    if (transpose_a) {
      piece.transpose_a = false;
      piece.lda = depth_most + padding;
      float* target = scratch_f32(Scratch::panel_a, g.m * piece.lda);
      simd::transpose<float>(from_a, g.lda, target, piece.lda, piece.k, g.m);
      piece.a = target;
    }
    if (pack) {
      Gemm source = g;
      source.k = piece.k;
      source.b = from_b;
      float* target = scratch_f32(Scratch::panel_b, depth_most * (g.n + padding));
      pack_b(source, target);
      piece.transpose_b = false;
      piece.ldb = g.n + padding;
      piece.b = target;
    }
    call(piece);
    piece.accumulate = true;
  }
}

}  // namespace moxie::gemm_detail

#else

namespace moxie::gemm_detail {
bool multiplies_bf16() { return false; }
bool multiply_bf16_natively(const Gemm&) { return false; }
bool packs_b(const Gemm&) { return false; }
void pack_b(const Gemm&, float*) {}
void multiply_f32(const Gemm& block) { multiply_own_f32(block); }
}  // namespace moxie::gemm_detail

#endif
