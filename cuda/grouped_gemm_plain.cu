// SPDX-License-Identifier: Apache-2.0
#include "cuda/grouped_gemm_plain.cuh"

#include "cuda/grouped_gemm_launch.cuh"

namespace moxie::cuda {

template <Form form, class T, class Out>
void grouped_plain(int device, const GroupedOperands<T>& operands, Out* c, int64_t ldc, int64_t stride_c,
                   bool accumulate) {
  launch_tiles<2>(device, "grouped matmul without tensor cores",
                  PlainGroupedKernel<T, Out, form>{operands, c, ldc, stride_c, accumulate});
}

#define MOXIE_PLAIN_FORM(form, T, Out) \
  template void grouped_plain<form>(int, const GroupedOperands<T>&, Out*, int64_t, int64_t, bool)
#define MOXIE_PLAIN(T, Out)                      \
  MOXIE_PLAIN_FORM(Form::rows, T, Out);          \
  MOXIE_PLAIN_FORM(Form::rows_backward, T, Out); \
  MOXIE_PLAIN_FORM(Form::weight, T, Out)

MOXIE_PLAIN(double, double);
MOXIE_PLAIN(float, float);
MOXIE_PLAIN(bf16, bf16);
MOXIE_PLAIN(bf16, float);

}  // namespace moxie::cuda
