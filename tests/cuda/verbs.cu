// SPDX-License-Identifier: Apache-2.0
#include "tests/core/verbs.h"

#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_KERNEL(testing::AllVerbs);
MOXIE_CUDA_KERNEL(testing::TwoPasses);

}  // namespace moxie
