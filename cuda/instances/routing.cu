// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.cuh"
#include "moe/kernels/balance.h"
#include "moe/kernels/combine.h"
#include "moe/kernels/load.h"

namespace moxie {

MOXIE_CUDA_FLOATS(moe::Combine);
MOXIE_CUDA_FLOATS(moe::CombineBackward);
MOXIE_CUDA_WIDE_FLOATS(moe::WeightedShare);
MOXIE_CUDA_WIDE_FLOATS(moe::WeightedShareBackward);
MOXIE_CUDA_WIDE_FLOATS(moe::LoadProbability);
MOXIE_CUDA_WIDE_FLOATS(moe::LoadProbabilityBackward);

}  // namespace moxie
