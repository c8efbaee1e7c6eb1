// SPDX-License-Identifier: Apache-2.0
// Dense and batched matmul by cuBLAS, by cuBLASLt where a bias is added on the way. They know column-major matrices
// only, and a row-major matrix is the transposed one to them: C^T [n, m] = op(B)^T op(A)^T is the same memory.
#include "core/gemm.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "core/errors.h"
#include "cuda/runtime.h"

namespace moxie::cuda {
namespace {

void check_cublas(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  // A kernel that failed before makes cuBLAS fail: then its error is the one to see.
  check(cudaPeekAtLastError(), call);
  throw CudaError(std::string(call) + ": " + cublasGetStatusString(status));
}
#define MOXIE_CUBLAS_CHECK(...) check_cublas((__VA_ARGS__), #__VA_ARGS__)

// f32 products on tensor cores keep 10 bits of each factor: only for those who ask, in the product itself or for all
// of them with MOXIE_TF32=1 in the environment.
bool wants_tf32() {
  static const bool wants = [] {
    const char* value = std::getenv("MOXIE_TF32");
    return value != nullptr && std::string(value) == "1";
  }();
  return wants;
}

// cuBLAS of one device. With a workspace of its own it picks the same kernels, and so the same bits, whatever memory is
// free.
class Library final {
 public:
  explicit Library(int device) {
    const cudaStream_t on = stream(device);
    MOXIE_CUBLAS_CHECK(cublasCreate(&handle_));
    MOXIE_CUBLAS_CHECK(cublasSetStream(handle_, on));
    workspace_ = allocate(device, workspace_bytes);
    MOXIE_CUBLAS_CHECK(cublasSetWorkspace(handle_, workspace_, workspace_bytes));
    MOXIE_CUBLAS_CHECK(cublasLtCreate(&lt_));
    MOXIE_CUBLAS_CHECK(cublasSetMathMode(
        handle_, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)));
  }
  std::mutex& mutex() { return mutex_; }
  cublasHandle_t handle() const { return handle_; }
  cublasLtHandle_t lt() const { return lt_; }
  void* workspace() const { return workspace_; }
  // What NVIDIA recommends for Hopper.
  static constexpr int64_t workspace_bytes = int64_t{32} << 20;

  // The kernels that cuBLASLt has chosen, by everything the choice depends on; none where it has no kernel.
  using Key = std::array<int64_t, 14>;
  std::map<Key, std::optional<cublasLtMatmulAlgo_t>> algorithms;

 private:
  cublasHandle_t handle_ = nullptr;
  cublasLtHandle_t lt_ = nullptr;
  void* workspace_ = nullptr;
  std::mutex mutex_;
};

// Never destroyed: at the end of the program the driver may be gone before.
Library& library(int device) {
  static std::mutex mutex;
  static auto* const libraries = new std::vector<std::unique_ptr<Library>>;
  const std::lock_guard lock(mutex);
  const auto index = static_cast<size_t>(device);
  if (libraries->size() <= index) libraries->resize(index + 1);
  auto& entry = (*libraries)[index];
  if (!entry) entry = std::make_unique<Library>(device);
  return *entry;
}

cudaDataType_t data_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64: return CUDA_R_64F;
    case Dtype::f32: return CUDA_R_32F;
    default: return CUDA_R_16BF;
  }
}

cublasComputeType_t compute_type(const Gemm& g) {
  if (g.dtype == Dtype::f64) return CUBLAS_COMPUTE_64F;
  return g.dtype == Dtype::f32 && (g.tf32 || wants_tf32()) ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

void set_zero(int device, const Gemm& g) {
  const auto size = static_cast<size_t>(size_of(g.out_dtype));
  const auto bytes = [size](int64_t count) { return static_cast<size_t>(count) * size; };
  for (int64_t i = 0; i < g.batch; ++i) {
    MOXIE_CUDA_CHECK(cudaMemset2DAsync(static_cast<std::byte*>(g.c) + bytes(i * g.stride_c), bytes(g.ldc), 0,
                                       bytes(g.n), static_cast<size_t>(g.m), stream(device)));
  }
}

// Objects of cuBLASLt, destroyed with their owner.
template <auto destroy> struct Destroy {
  void operator()(auto* object) const { destroy(object); }
};
template <class Object, auto destroy> using Owned = std::unique_ptr<std::remove_pointer_t<Object>, Destroy<destroy>>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Product = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

Layout layout(Dtype dtype, int64_t rows, int64_t cols, int64_t ld) {
  cublasLtMatrixLayout_t created = nullptr;
  MOXIE_CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&created, data_type(dtype), static_cast<uint64_t>(rows),
                                                static_cast<uint64_t>(cols), ld));
  return Layout(created);
}

Product product_with_bias(const Gemm& g) {
  cublasLtMatmulDesc_t created = nullptr;
  MOXIE_CUBLAS_CHECK(cublasLtMatmulDescCreate(&created, compute_type(g), CUDA_R_32F));
  Product product(created);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
    MOXIE_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product.get(), attribute, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(g.out_dtype));
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
  return product;
}

// What a kernel must get by with: the workspace, and how A, B and C are aligned.
Preference preference_for(const uint32_t (&aligned)[3]) {
  cublasLtMatmulPreference_t created = nullptr;
  MOXIE_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&created));
  Preference preference(created);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    MOXIE_CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(Library::workspace_bytes));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, aligned[0]);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, aligned[1]);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, aligned[2]);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, aligned[2]);
  return preference;
}

// The largest power of two, up to what any kernel asks for, that divides the address.
uint32_t alignment(const void* data) {
  constexpr uintptr_t most = 256;
  const uintptr_t bits = reinterpret_cast<uintptr_t>(data) | most;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// C = op(A) op(B) + bias by cuBLASLt, which adds the bias before it stores; false where it has no kernel for that.
bool multiply_with_bias(int device, const Gemm& g) {
  if (g.dtype == Dtype::f64 || g.out_dtype != g.dtype) return false;
  Library& cublas = library(device);
  const cudaStream_t on = stream(device);
  const std::lock_guard lock(cublas.mutex());
  const Product product = product_with_bias(g);
  const Layout a = layout(g.dtype, g.transpose_b ? g.k : g.n, g.transpose_b ? g.n : g.k, g.ldb);
  const Layout b = layout(g.dtype, g.transpose_a ? g.m : g.k, g.transpose_a ? g.k : g.m, g.lda);
  const Layout c = layout(g.out_dtype, g.n, g.m, g.ldc);
  const uint32_t aligned[] = {alignment(g.b), alignment(g.a), alignment(g.c)};
  const Library::Key key{static_cast<int64_t>(g.dtype),
                         g.tf32,
                         g.transpose_a,
                         g.transpose_b,
                         g.m,
                         g.n,
                         g.k,
                         g.lda,
                         g.ldb,
                         g.ldc,
                         aligned[0],
                         aligned[1],
                         aligned[2],
                         alignment(g.bias)};
  auto found = cublas.algorithms.find(key);
  if (found == cublas.algorithms.end()) {
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(cublas.lt(), product.get(), a.get(), b.get(), c.get(), c.get(),
                                       preference_for(aligned).get(), 1, &best, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) MOXIE_CUBLAS_CHECK(status);
    const bool usable = status == CUBLAS_STATUS_SUCCESS && count == 1 && best.state == CUBLAS_STATUS_SUCCESS;
    found = cublas.algorithms.emplace(key, usable ? std::optional(best.algo) : std::nullopt).first;
  }
  if (!found->second) return false;
  const float one = 1, zero = 0;
  MOXIE_CUBLAS_CHECK(cublasLtMatmul(cublas.lt(), product.get(), &one, g.b, a.get(), g.a, b.get(), &zero, g.c, c.get(),
                                    g.c, c.get(), &*found->second, cublas.workspace(),
                                    static_cast<size_t>(Library::workspace_bytes), on));
  return true;
}

template <class T> __global__ void copy_to_rows(const T* row, T* c, int64_t ldc, int64_t n) {
  const int64_t j = int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (j < n) c[int64_t{blockIdx.x} * ldc + j] = row[j];
}

// Writes the bias to C's rows.
template <class T> void begin_with_bias(int device, const Gemm& g) {
  constexpr unsigned threads = 256;
  const dim3 blocks(static_cast<unsigned>(g.m), static_cast<unsigned>((g.n + threads - 1) / threads));
  copy_to_rows<<<blocks, threads, 0, stream(device)>>>(static_cast<const T*>(g.bias), static_cast<T*>(g.c), g.ldc, g.n);
  check_launch(device, "copy_to_rows", {blocks, threads});
}

}  // namespace

void gemm(int device, const Gemm& g) {
  if (g.bias != nullptr) {
    if (g.k > 0 && multiply_with_bias(device, g)) return;
    switch (g.out_dtype) {
      case Dtype::f64: begin_with_bias<double>(device, g); break;
      case Dtype::f32: begin_with_bias<float>(device, g); break;
      default: begin_with_bias<bf16>(device, g);
    }
    Gemm rest = g;
    rest.bias = nullptr;
    rest.accumulate = true;
    return gemm(device, rest);
  }
  if (g.k == 0) {
    stream(device);
    return g.accumulate ? void() : set_zero(device, g);
  }
  Library& cublas = library(device);
  stream(device);  // makes it the thread's device
  const double one = 1, zero = 0;
  const float one_f32 = 1, zero_f32 = 0;
  const bool f64 = g.dtype == Dtype::f64;
  const void* alpha = f64 ? static_cast<const void*>(&one) : &one_f32;
  const void* beta = g.accumulate ? alpha : f64 ? static_cast<const void*>(&zero) : &zero_f32;
  const std::lock_guard lock(cublas.mutex());
  MOXIE_CUBLAS_CHECK(cublasGemmStridedBatchedEx_64(
      cublas.handle(), g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, g.n, g.m,
      g.k, alpha, g.b, data_type(g.dtype), g.ldb, g.stride_b, g.a, data_type(g.dtype), g.lda, g.stride_a, beta, g.c,
      data_type(g.out_dtype), g.ldc, g.stride_c, g.batch, compute_type(g), CUBLAS_GEMM_DEFAULT));
}

}  // namespace moxie::cuda
