// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/array.h"

namespace moxie {

// x summed over the dimensions in which it was broadcast from `shape`: the gradient of broadcasting. What was summed is
// in the dtype of x's statistics.
Array sum_to(const Array& x, const Shape& shape);

}  // namespace moxie
