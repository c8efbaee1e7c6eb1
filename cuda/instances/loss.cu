// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/loss/cross_entropy.h"
#include "core/kernels/loss/kl_divergence.h"
#include "core/kernels/loss/weighted_cross_entropy.h"
#include "cuda/launch.cuh"

namespace moxie {

// f32 and bf16 of cross entropy: cuda/tuned/cross_entropy.cu

MOXIE_CUDA_KERNEL(CrossEntropy<double>);
MOXIE_CUDA_KERNEL(CrossEntropyInPlace<double>);
MOXIE_CUDA_FLOATS(CrossEntropyBackward);
MOXIE_CUDA_WIDE_FLOATS(MeanLoss);
MOXIE_CUDA_FLOATS(WeightedCrossEntropy);
MOXIE_CUDA_FLOATS(WeightedCrossEntropyBackward);
MOXIE_CUDA_FLOATS(KlDivergence);
MOXIE_CUDA_FLOATS(KlDivergenceBackward, false);
MOXIE_CUDA_FLOATS(KlDivergenceBackward, true);

}  // namespace moxie
