// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.cuh"
#include "moe/kernels/balance.h"
#include "moe/kernels/choose.h"
#include "moe/kernels/combine.h"
#include "moe/kernels/load.h"
#include "moe/kernels/routing.h"

namespace moxie {

MOXIE_CUDA_WIDE_FLOATS(moe::ChooseExperts);
MOXIE_CUDA_WIDE_FLOATS(moe::ChooseExpertsBackward);
MOXIE_CUDA_KERNEL(moe::AddLoad);
MOXIE_CUDA_WIDE_FLOATS(moe::ScaleLoad);
MOXIE_CUDA_KERNEL(moe::Combine<double>);
MOXIE_CUDA_KERNEL(moe::CombineBackward<double>);
MOXIE_CUDA_WIDE_FLOATS(moe::WeightedShare);
MOXIE_CUDA_WIDE_FLOATS(moe::WeightedShareBackward);
MOXIE_CUDA_WIDE_FLOATS(moe::LoadProbability);
MOXIE_CUDA_WIDE_FLOATS(moe::LoadProbabilityBackward);

}  // namespace moxie
