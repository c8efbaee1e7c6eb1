// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.cuh"
#include "moe/kernels/noise.h"

namespace moxie {

MOXIE_CUDA_WIDE_FLOATS(moe::AddNoise, moe::GaussianDraw);
MOXIE_CUDA_WIDE_FLOATS(moe::AddNoise, moe::GumbelDraw);
MOXIE_CUDA_FLOATS(moe::BoundedNoise);
MOXIE_CUDA_WIDE_FLOATS(moe::LearnedNoise);
MOXIE_CUDA_WIDE_FLOATS(moe::LearnedNoiseBackward);

}  // namespace moxie
