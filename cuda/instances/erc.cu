// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.cuh"
#include "moe/kernels/erc.h"

namespace moxie {

MOXIE_CUDA_WIDE_FLOATS(moe::ErcDistances);
MOXIE_CUDA_WIDE_FLOATS(moe::ErcBound);
MOXIE_CUDA_WIDE_FLOATS(moe::ErcNoise);
MOXIE_CUDA_WIDE_FLOATS(moe::ErcNorms);
MOXIE_CUDA_WIDE_FLOATS(moe::ErcHinge);
MOXIE_CUDA_WIDE_FLOATS(moe::ErcHingeBackward);
MOXIE_CUDA_WIDE_FLOATS(moe::ErcScaleProducts);
MOXIE_CUDA_WIDE_FLOATS(moe::ErcClearRows);

}  // namespace moxie
