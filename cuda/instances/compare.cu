// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/compare.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_DTYPES(Compare, Equal);
MOXIE_CUDA_DTYPES(Compare, NotEqual);
MOXIE_CUDA_DTYPES(Compare, Less);
MOXIE_CUDA_DTYPES(Compare, LessEqual);
MOXIE_CUDA_DTYPES(Compare, Greater);
MOXIE_CUDA_DTYPES(Compare, GreaterEqual);
MOXIE_CUDA_KERNEL(Compare<LogicalAnd, uint8_t>);
MOXIE_CUDA_KERNEL(Compare<LogicalOr, uint8_t>);
MOXIE_CUDA_KERNEL(Compare<LogicalXor, uint8_t>);

}  // namespace moxie
