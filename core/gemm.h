// SPDX-License-Identifier: Apache-2.0
// The matmul seam: dense, batched, and grouped (one weight matrix per group of rows).
// All matrices are row-major with a leading dimension, so that parts of a larger matrix are used in place.
// Products are summed in f64 for f64, in f32 otherwise, and rounded once. NaN and Inf propagate; where `accumulate` is
// false, what C held before has no influence. On the CPU results are bit-equal for any number of threads; a processor's
// own instructions for bf16 take numbers below 2^-126 for 0.
#pragma once
#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"

namespace moxie {

// C [m, n] = op(A) [m, k] op(B) [k, n], `batch` times; with accumulate C += op(A) op(B). C must not overlap A or B.
struct Gemm {
  Dtype dtype = Dtype::f32;      // of A and B: f64, f32 or bf16
  Dtype out_dtype = Dtype::f32;  // of C: the same as dtype, or f32 for bf16 operands
  bool transpose_a = false;      // A is stored [k, m]
  bool transpose_b = false;      // B is stored [n, k]
  bool accumulate = false;
  bool tf32 = false;  // a GPU may keep 10 bits of the factors' mantissas where they are f32, and use its tensor cores
  int64_t m = 0, n = 0, k = 0, batch = 1;
  // Leading dimensions, and strides between the members of the batch, in elements. Stride 0 of A or B: all share it.
  const void* a = nullptr;
  int64_t lda = 0, stride_a = 0;
  const void* b = nullptr;
  int64_t ldb = 0, stride_b = 0;
  void* c = nullptr;
  int64_t ldc = 0, stride_c = 0;
  const void* bias = nullptr;  // [n] in C's dtype: C = op(A) op(B) + bias in every row; without batch and accumulate
};

// Multiplies matrices. k = 0 gives zeros (the bias, or what C is when accumulating); m, n or batch = 0 does nothing.
// Throws std::logic_error where the description contradicts itself.
void gemm(Device device, const Gemm& gemm);

// One product in the CPU's memory, uncut and on the calling thread, for loops that cut their own work; `batch` is not
// looked at. f32 is fastest where C has about 256 x 512 elements at most.
void gemm_here(const Gemm& gemm);

// C [rows of g, n] = A [rows of g, k] op(B_g) [k, n] for every group g; with accumulate C += ...
// Rows of A and C are sorted by group: group g has rows [offsets[g], offsets[g + 1]).
struct GroupedGemm {
  Dtype dtype = Dtype::f32;
  Dtype out_dtype = Dtype::f32;
  bool transpose_b = false;  // B_g is stored [n, k], as weights are; false gives the gradient of the input
  bool accumulate = false;
  int64_t groups = 0, n = 0, k = 0;
  const int32_t* offsets = nullptr;  // [groups + 1], ascending, on the device of the data
  const void* a = nullptr;
  int64_t lda = 0;
  const void* b = nullptr;
  int64_t ldb = 0, stride_b = 0;  // B_g starts at b + g * stride_b
  void* c = nullptr;
  int64_t ldc = 0;
};

// Multiplies the rows of each group with the matrix of their group. Rows outside all groups are not touched.
void grouped_gemm(Device device, const GroupedGemm& gemm);

// C_g [m, n] = A [rows of g, m]^T B [rows of g, n] for every group g: the gradient of the weights; with accumulate
// C_g += ... A group without rows gives zeros (or leaves C_g when accumulating).
struct GroupedGemmWeight {
  Dtype dtype = Dtype::f32;
  Dtype out_dtype = Dtype::f32;
  bool accumulate = false;
  int64_t groups = 0, m = 0, n = 0;
  const int32_t* offsets = nullptr;  // [groups + 1], ascending, on the device of the data
  const void* a = nullptr;
  int64_t lda = 0;
  const void* b = nullptr;
  int64_t ldb = 0;
  void* c = nullptr;
  int64_t ldc = 0, stride_c = 0;  // C_g starts at c + g * stride_c
};

// Multiplies the transposed rows of each group of A with the rows of the same group of B.
void grouped_gemm_weight(Device device, const GroupedGemmWeight& gemm);

#ifdef MOXIE_CUDA
namespace cuda {
void gemm(int device, const Gemm& gemm);
void grouped_gemm(int device, const GroupedGemm& gemm);
void grouped_gemm_weight(int device, const GroupedGemmWeight& gemm);
}  // namespace cuda
#endif

}  // namespace moxie
