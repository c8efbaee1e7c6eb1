// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/common.h"

#include <algorithm>

#include "core/cuda.h"

namespace moxie {

void check_indices(const char* op, const Array& index, int64_t limit, Device device, std::optional<int32_t> ignored) {
  check(index.dtype() == Dtype::i32, "{}: indices must be i32, got {}", op, name_of(index.dtype()));
  check(index.device() == device, "{}: indices are on {}, the values on {}", op, index.device().name(), device.name());
  const int32_t* values = index.data<int32_t>();
#ifdef MOXIE_CUDA
  if (device.is_cuda())
    return cuda::check_indices(device.index, op, values, index.numel(), limit, ignored ? &*ignored : nullptr);
#endif
  const int32_t* end = values + index.numel();
  const int32_t* bad = std::find_if(values, end, [=](int32_t i) { return (i < 0 || i >= limit) && i != ignored; });
  check(bad == end, "{}: index {} at position {} is out of range [0, {})", op, bad == end ? 0 : *bad, bad - values,
        limit);
}

}  // namespace moxie
