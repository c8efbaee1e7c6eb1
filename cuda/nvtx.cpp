// SPDX-License-Identifier: Apache-2.0
// Ranges for NVIDIA's profilers. The headers load the profiler's library, where one is attached, at the first range.
#include <nvtx3/nvToolsExt.h>

#include "core/cuda.h"

namespace moxie::cuda {

void begin_range(const char* name) { nvtxRangePushA(name); }
void end_range() { nvtxRangePop(); }

}  // namespace moxie::cuda
