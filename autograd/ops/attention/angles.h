// SPDX-License-Identifier: Apache-2.0
// Internal: the angles that rope and attention turn queries and keys by.
#pragma once
#include "core/array.h"

namespace moxie {

struct RopeAngles {
  Array cosine, sine;  // [time, head_dim / 2], of the angles (first_position + t) base^(-2 i / head_dim)
};
RopeAngles rope_angles(int64_t time, int64_t head_dim, int64_t first_position, double base, Options options);

}  // namespace moxie
