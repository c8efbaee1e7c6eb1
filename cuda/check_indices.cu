// SPDX-License-Identifier: Apache-2.0
// Indices are checked behind the program. A check leaves what it finds in page-locked host memory, where it is seen
// even after the out-of-range access that follows has killed the device's context.
#include <cuda_runtime.h>

#include <cstring>
#include <string>

#include "core/errors.h"
#include "cuda/index_errors.h"
#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

constexpr int threads = 1024;

// record = the first index that is out of range, if there is one and none is recorded yet.
__global__ void __launch_bounds__(threads)
    check_indices_kernel(const int32_t* index, int64_t n, int64_t limit, bool has_ignored, int32_t ignored,
                         volatile IndexRecord* record) {
  const BlockTeam<threads> team;
  // positions below 2^53 are exact in double
  const double last = team.max(n, [=](int64_t i) {
    const int32_t value = index[i];
    const bool bad = (value < 0 || value >= limit) && !(has_ignored && value == ignored);
    return bad ? static_cast<double>(-i) : -static_cast<double>(n);
  });
  team.once([=] {
    if (last <= -static_cast<double>(n) || record->position >= 0) return;
    record->value = index[static_cast<int64_t>(-last)];
    __threadfence_system();
    record->position = static_cast<int64_t>(-last);
    __threadfence_system();
  });
}

}  // namespace

void check_indices(int device, const char* op, const int32_t* index, int64_t n, int64_t limit, const int32_t* ignored) {
  if (n == 0) return;
  const cudaStream_t on = stream(device);
  IndexRecord* record = index_record(device, op, limit);
  check_indices_kernel<<<1, threads, 0, on>>>(index, n, limit, ignored != nullptr, ignored != nullptr ? *ignored : 0,
                                              record);
  check_launch(device, "check_indices", {1, threads});
}

}  // namespace moxie::cuda
