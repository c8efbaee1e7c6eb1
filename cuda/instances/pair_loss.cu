// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/loss/pair.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(PairLoss, SquaredError);
MOXIE_CUDA_FLOATS(PairLossBackward, SquaredError, false);
MOXIE_CUDA_FLOATS(PairLossBackward, SquaredError, true);
MOXIE_CUDA_FLOATS(PairLoss, AbsoluteError);
MOXIE_CUDA_FLOATS(PairLossBackward, AbsoluteError, false);
MOXIE_CUDA_FLOATS(PairLossBackward, AbsoluteError, true);
MOXIE_CUDA_FLOATS(PairLoss, HuberError);
MOXIE_CUDA_FLOATS(PairLossBackward, HuberError, false);
MOXIE_CUDA_FLOATS(PairLossBackward, HuberError, true);
MOXIE_CUDA_FLOATS(PairLoss, ProbabilityCrossEntropy);
MOXIE_CUDA_FLOATS(PairLossBackward, ProbabilityCrossEntropy, false);
MOXIE_CUDA_FLOATS(PairLossBackward, ProbabilityCrossEntropy, true);
MOXIE_CUDA_FLOATS(PairLoss, LogitsCrossEntropy);
MOXIE_CUDA_FLOATS(PairLossBackward, LogitsCrossEntropy, false);
MOXIE_CUDA_FLOATS(PairLossBackward, LogitsCrossEntropy, true);

}  // namespace moxie
