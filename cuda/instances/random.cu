// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/random/dropout.h"
#include "core/kernels/random/fill.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(Dropout);
MOXIE_CUDA_KERNEL(FillNormal);
MOXIE_CUDA_KERNEL(FillUniform);
MOXIE_CUDA_KERNEL(FillTruncatedNormal);

}  // namespace moxie
