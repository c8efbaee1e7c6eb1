// SPDX-License-Identifier: Apache-2.0
#include "tests/core/verbs.h"

#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_KERNEL(testing::AllVerbs);
MOXIE_CUDA_KERNEL(testing::TwoPasses);

namespace testing {
namespace {
__global__ void do_nothing() {}
}  // namespace

// A launch that CUDA refuses: a block has at most 1024 threads.
void launch_too_wide() {
  do_nothing<<<3, 2048, 0, cuda::stream(0)>>>();
  cuda::check_launch(0, "do_nothing", {3, 2048});
}
}  // namespace testing

}  // namespace moxie
