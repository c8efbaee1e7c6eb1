// SPDX-License-Identifier: Apache-2.0
// The tensor-core kernels of the grouped matmul, and the one without tensor cores: their very source, on emulated
// blocks.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "cuda/grouped_gemm_finish.cuh"
#include "cuda/grouped_gemm_kernel.cuh"
#include "cuda/grouped_gemm_plain.cuh"
#include "cuda/warpgroup.cuh"
#include "tests/cuda/grouped_gemm_support.h"
#include "tests/device.h"

using namespace moxie;
using namespace moxie::cuda;

namespace {

template <class Multiply, Form form, class Out, int stages> void verify(const GroupedCase& c) {
  using Kernel = GroupedKernel<Multiply, form, StoreSums<Out>, stages>;
  verify_grouped<form, bf16, Out>(c,
                                  [&](const GroupedOperands<bf16>& operands, Out* out, int64_t ldc, int64_t stride_c) {
                                    return Kernel{operands, {out, ldc, stride_c, c.accumulate}};
                                  });
}

template <Form form, class T, class Out = T> void verify_plain(const GroupedCase& c) {
  verify_grouped<form, T, Out>(c, [&](const GroupedOperands<T>& operands, Out* out, int64_t ldc, int64_t stride_c) {
    return PlainGroupedKernel<T, Out, form>{operands, out, ldc, stride_c, c.accumulate};
  });
}

// Empty groups, one row, edges of tiles in every direction, several steps, strides, gathers, both results.
template <class Multiply, int stages> void verify_all() {
  verify<Multiply, Form::rows, bf16, stages>({.load = {1}, .n = 8, .k = 8, .blocks = 1});
  verify<Multiply, Form::rows, bf16, stages>({.load = {0, 130, 0, 1, 20}, .n = 136, .k = 72, .padding = 8});
  verify<Multiply, Form::rows, float, stages>(
      {.load = {40, 7}, .n = 24, .k = 264, .gather = true, .accumulate = true, .blocks = 1});
  verify<Multiply, Form::rows, float, stages>({.load = {40, 0}, .n = 24, .k = 0});
  verify<Multiply, Form::rows_backward, bf16, stages>(
      {.load = {0, 130, 0, 1, 20}, .n = 136, .k = 72, .padding = 8, .accumulate = true});
  verify<Multiply, Form::rows_backward, float, stages>({.load = {3}, .n = 264, .k = 200, .gather = true});
  verify<Multiply, Form::weight, float, stages>(
      {.load = {0, 230, 0, 1, 20}, .m = 136, .n = 72, .padding = 8, .gather = true, .accumulate = true});
  verify<Multiply, Form::weight, bf16, stages>({.load = {0, 200, 0}, .m = 8, .n = 136});
}

}  // namespace

TEST_CASE("grouped kernel: by warps") { verify_all<WarpMultiply<128, 128>, 3>(); }
TEST_CASE("grouped kernel: by warpgroups") { verify_all<WarpgroupMultiply<128, 128, 1>, 3>(); }
TEST_CASE("grouped kernel: by warpgroups, wide" * doctest::skip(testing::only_races)) {
  verify_all<WarpgroupMultiply<128, 256>, 4>();
}

TEST_CASE("grouped kernel: without tensor cores") {
  verify_plain<Form::rows, double>({.load = {0, 70, 1, 0}, .n = 67, .k = 21, .padding = 3});
  verify_plain<Form::rows, float>({.load = {30}, .n = 1, .k = 5, .gather = true, .accumulate = true});
  verify_plain<Form::rows, bf16>({.load = {3, 4}, .n = 9, .k = 0});
  verify_plain<Form::rows_backward, double>(
      {.load = {0, 70, 1, 0}, .n = 67, .k = 21, .padding = 3, .accumulate = true});
  verify_plain<Form::rows_backward, bf16, float>({.load = {5}, .n = 7, .k = 40});
  verify_plain<Form::weight, double>({.load = {0, 70, 1, 0}, .m = 67, .n = 3, .padding = 1, .gather = true});
  verify_plain<Form::weight, bf16>({.load = {20, 0}, .m = 7, .n = 70, .accumulate = true});
}
