// SPDX-License-Identifier: Apache-2.0
// The seam of the grouped matmul: chooses between tensor cores and the plain kernel. No function here waits for the
// device.
#include "core/gemm.h"

#include <atomic>
#include <limits>
#include <string>

#include "core/errors.h"
#include "cuda/grouped_gemm_launch.cuh"
#include "cuda/scratch.h"

namespace moxie::cuda {
namespace {

__global__ void write_has_warpgroups(int32_t* result) {
#ifdef MOXIE_WGMMA
  *result = 1;
#else
  *result = 0;
#endif
}

int checked_int(const char* op, int64_t value) {
  if (value > std::numeric_limits<int>::max())
    throw_logic_error(std::string(op) + ": sizes must fit into 32 bits, got " + std::to_string(value));
  return static_cast<int>(value);
}

// Whether 16 bytes can be copied at once everywhere.
bool fits_tensor(const GroupedOperands<bf16>& o, const void* c, int64_t ldc, int64_t stride_c, bool weight) {
  const int64_t sizes = o.n | o.lda | o.ldb | o.stride_b | ldc | stride_c | (weight ? o.m : o.k);
  return sizes % chunk_size == 0 && is_aligned(o.a) && is_aligned(o.b) && is_aligned(c);
}

template <Form form, class T, class Out>
void run(int device, const GroupedOperands<T>& operands, void* c, int64_t ldc, int64_t stride_c, bool accumulate) {
  if constexpr (std::is_same_v<T, bf16>) {
    if (fits_tensor(operands, c, ldc, stride_c, form == Form::weight))
      return grouped_tensor<form>(device, operands, static_cast<Out*>(c), ldc, stride_c, accumulate);
  }
  grouped_plain<form>(device, operands, static_cast<Out*>(c), ldc, stride_c, accumulate);
}

// f(T, Out) with values of the types.
template <class F> void dispatch(Dtype dtype, Dtype out_dtype, F f) {
  if (dtype == Dtype::f64) return f(double{}, double{});
  if (dtype == Dtype::f32) return f(float{}, float{});
  return out_dtype == Dtype::f32 ? f(bf16{}, float{}) : f(bf16{}, bf16{});
}

}  // namespace

bool has_warpgroups(int device) {
  static std::atomic<uint64_t> known = 0, has = 0;  // a bit for each device
  const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
  if ((known.load() & bit) != 0) return (has.load() & bit) != 0;
  const cudaStream_t on = stream(device);
  if (bit == 0 || properties(device).capability != 90) return false;
  const Scratch<int32_t> result(device, 1);
  write_has_warpgroups<<<1, 1, 0, on>>>(result.data());
  check_launch(device, "write_has_warpgroups", {dim3(1), dim3(1)});
  int32_t value = 0;
  copy_to_host(device, &value, result.data(), sizeof(value));
  if (value != 0) has |= bit;
  known |= bit;
  return value != 0;
}

void grouped_gemm(int device, const GroupedGemm& g) {
  dispatch(g.dtype, g.out_dtype, [&]<class T, class Out>(T, Out) {
    const GroupedOperands<T> operands{g.offsets,
                                      checked_int("grouped_gemm", g.groups),
                                      0,
                                      checked_int("grouped_gemm", g.n),
                                      checked_int("grouped_gemm", g.k),
                                      static_cast<const T*>(g.a),
                                      g.lda,
                                      nullptr,
                                      static_cast<const T*>(g.b),
                                      g.ldb,
                                      g.stride_b,
                                      nullptr};
    if (g.transpose_b)
      run<Form::rows, T, Out>(device, operands, g.c, g.ldc, 0, g.accumulate);
    else
      run<Form::rows_backward, T, Out>(device, operands, g.c, g.ldc, 0, g.accumulate);
  });
}

void grouped_gemm_weight(int device, const GroupedGemmWeight& g) {
  dispatch(g.dtype, g.out_dtype, [&]<class T, class Out>(T, Out) {
    const GroupedOperands<T> operands{g.offsets,
                                      checked_int("grouped_gemm_weight", g.groups),
                                      checked_int("grouped_gemm_weight", g.m),
                                      checked_int("grouped_gemm_weight", g.n),
                                      0,
                                      static_cast<const T*>(g.a),
                                      g.lda,
                                      nullptr,
                                      static_cast<const T*>(g.b),
                                      g.ldb,
                                      0,
                                      nullptr};
    run<Form::weight, T, Out>(device, operands, g.c, g.ldc, g.stride_c, g.accumulate);
  });
}

}  // namespace moxie::cuda
