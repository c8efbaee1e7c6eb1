// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/shape/pad.h"
#include "core/kernels/shape/strided_copy.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_DTYPES(StridedCopy);
MOXIE_CUDA_DTYPES(CopyRows);
MOXIE_CUDA_DTYPES(Pad);

}  // namespace moxie
