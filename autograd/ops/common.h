// SPDX-License-Identifier: Apache-2.0
// What the op files share: rules on inputs, and the launch of elementwise kernels.
#pragma once
#include <optional>

#include "autograd/anomaly.h"
#include "autograd/record.h"
#include "core/kernels/elementwise/rows.h"
#include "core/launch.h"

namespace moxie {

// Same dtype and device, the precondition of every op with several inputs.
inline void check_same_kind(const char* op, const Array& x, const char* x_name, const Array& y, const char* y_name) {
  check(x.device() == y.device(), "{}: {} is on {} and {} on {}; move one with .to(device)", op, x_name,
        x.device().name(), y_name, y.device().name());
  check(x.dtype() == y.dtype(), "{}: {} is {} and {} is {}; convert one with cast", op, x_name, name_of(x.dtype()),
        y_name, name_of(y.dtype()));
}

// i32 indices on the same device, each in [0, limit), or equal to `ignored`. On a GPU they are looked at behind the
// program, and what is wrong is thrown by the next call that waits for the device (to_vector, item, a copy to the CPU).
void check_indices(const char* op, const Array& index, int64_t limit, Device device,
                   std::optional<int32_t> ignored = std::nullopt);

template <class Kernel> void for_elements(Device device, const Kernel& kernel, int64_t numel) {
  for_rows(device, kernel, elementwise_rows(numel), elementwise_row);
}

// Whether an op may write its result over x: nobody else sees these numbers. Anomaly mode looks at an op's inputs after
// it. On the CPU, where memory that was just read is the cheapest to write.
inline bool may_overwrite(const Array& x) { return x.device().is_cpu() && x.unique() && !anomaly_mode(); }

// x with `shape`'s leading rows and columns: [rows, cols] of its last dimension.
inline Array as_matrix(const Array& x) { return x.reshape({x.shape().rows(), x.shape().cols()}); }

}  // namespace moxie
