// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/index/gather.h"
#include "core/kernels/index/one_hot.h"
#include "core/kernels/index/rows.h"
#include "core/kernels/index/top_k.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(Gather);
MOXIE_CUDA_FLOATS(GatherBackward);
MOXIE_CUDA_DTYPES(OneHot);
MOXIE_CUDA_FLOATS(TopKRows);

}  // namespace moxie
