// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/optimizer/adam.h"
#include "core/kernels/optimizer/ema.h"
#include "core/kernels/optimizer/lion.h"
#include "core/kernels/optimizer/muon.h"
#include "core/kernels/optimizer/segments.h"
#include "core/kernels/optimizer/sgd.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_WIDE_FLOATS(SgdRows);
MOXIE_CUDA_WIDE_FLOATS(AdamRows);
MOXIE_CUDA_WIDE_FLOATS(AdamWRows);
MOXIE_CUDA_WIDE_FLOATS(LionRows);
MOXIE_CUDA_WIDE_FLOATS(MuonMomentumRows);
MOXIE_CUDA_WIDE_FLOATS(MuonApplyRows);
MOXIE_CUDA_WIDE_FLOATS(NormalizeMatrix);
MOXIE_CUDA_WIDE_FLOATS(QuinticRows);
MOXIE_CUDA_WIDE_FLOATS(EmaRows);
MOXIE_CUDA_WIDE_FLOATS(SwapRows);
MOXIE_CUDA_WIDE_FLOATS(SquaredGradRows);
MOXIE_CUDA_WIDE_FLOATS(ClipFactor);

}  // namespace moxie
