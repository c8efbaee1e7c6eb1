// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/attention/rope.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_KERNEL(RopeFrequencies);
MOXIE_CUDA_WIDE_FLOATS(RopeTable);
MOXIE_CUDA_KERNEL(Rope<double>);  // the others are in cuda/tuned

}  // namespace moxie
