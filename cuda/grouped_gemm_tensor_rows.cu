// SPDX-License-Identifier: Apache-2.0
#include "cuda/grouped_gemm_finish.cuh"
#include "cuda/grouped_gemm_launch.cuh"

namespace moxie::cuda {

template <Form form, class Out>
void grouped_tensor(int device, const GroupedOperands<bf16>& operands, Out* c, int64_t ldc, int64_t stride_c,
                    bool accumulate) {
  launch_tensor<form>(device, "grouped matmul, rows", operands, StoreSums<Out>{c, ldc, stride_c, accumulate});
}

template void grouped_tensor<Form::rows>(int, const GroupedOperands<bf16>&, bf16*, int64_t, int64_t, bool);
template void grouped_tensor<Form::rows>(int, const GroupedOperands<bf16>&, float*, int64_t, int64_t, bool);

}  // namespace moxie::cuda
