// SPDX-License-Identifier: Apache-2.0
// Dense and batched matmul by cuBLAS. It knows column-major matrices only, and a row-major matrix is the transposed one
// to it: C^T [n, m] = op(B)^T op(A)^T is the same memory.
#include "core/gemm.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
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

// f32 products on tensor cores keep 10 bits of each factor: only for those who ask, with MOXIE_TF32=1 in the
// environment.
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
    MOXIE_CUBLAS_CHECK(cublasSetWorkspace(handle_, allocate(device, workspace_bytes), workspace_bytes));
    MOXIE_CUBLAS_CHECK(cublasSetMathMode(
        handle_, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)));
  }
  std::mutex& mutex() { return mutex_; }
  cublasHandle_t handle() const { return handle_; }

 private:
  // What NVIDIA recommends for Hopper.
  static constexpr int64_t workspace_bytes = int64_t{32} << 20;
  cublasHandle_t handle_ = nullptr;
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

cublasComputeType_t compute_type(Dtype dtype) {
  if (dtype == Dtype::f64) return CUBLAS_COMPUTE_64F;
  return dtype == Dtype::f32 && wants_tf32() ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

void set_zero(int device, const Gemm& g) {
  const auto size = static_cast<size_t>(size_of(g.out_dtype));
  const auto bytes = [size](int64_t count) { return static_cast<size_t>(count) * size; };
  for (int64_t i = 0; i < g.batch; ++i) {
    MOXIE_CUDA_CHECK(cudaMemset2DAsync(static_cast<std::byte*>(g.c) + bytes(i * g.stride_c), bytes(g.ldc), 0,
                                       bytes(g.n), static_cast<size_t>(g.m), stream(device)));
  }
}

}  // namespace

void gemm(int device, const Gemm& g) {
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
      data_type(g.out_dtype), g.ldc, g.stride_c, g.batch, compute_type(g.dtype), CUBLAS_GEMM_DEFAULT));
}

}  // namespace moxie::cuda
