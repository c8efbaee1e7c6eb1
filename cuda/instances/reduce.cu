// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/reduce/cumulative_sum.h"
#include "core/kernels/reduce/extreme.h"
#include "core/kernels/reduce/logsumexp.h"
#include "core/kernels/reduce/product.h"
#include "core/kernels/reduce/scale_total.h"
#include "core/kernels/reduce/sum.h"
#include "core/kernels/reduce/variance.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(Expand);
MOXIE_CUDA_WIDE_FLOATS(ScaleTotal);
MOXIE_CUDA_FLOATS(ChunkSquares);
MOXIE_CUDA_FLOATS(VarianceBackward);
MOXIE_CUDA_FLOATS(CumulativeSum);
MOXIE_CUDA_FLOATS(ExtremeOfRow);
MOXIE_CUDA_FLOATS(ExtremeOfColumns);
MOXIE_CUDA_FLOATS(LogSumExp);
MOXIE_CUDA_FLOATS(LogSumExpBackward);
MOXIE_CUDA_FLOATS(Product);
MOXIE_CUDA_FLOATS(ProductBackward);

}  // namespace moxie
