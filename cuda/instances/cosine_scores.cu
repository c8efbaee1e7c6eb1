// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.cuh"
#include "moe/kernels/cosine_scores.h"

namespace moxie {

MOXIE_CUDA_WIDE_FLOATS(moe::RowNorms);
MOXIE_CUDA_WIDE_FLOATS(moe::CosineScores);
MOXIE_CUDA_WIDE_FLOATS(moe::CosineScoresBackward);
MOXIE_CUDA_WIDE_FLOATS(moe::CosineChoice);
MOXIE_CUDA_WIDE_FLOATS(moe::CosineChoiceBackward);
MOXIE_CUDA_WIDE_FLOATS(moe::AddScaledRows);
MOXIE_CUDA_WIDE_FLOATS(moe::AddExpertRows);

}  // namespace moxie
