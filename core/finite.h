// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/macros.h"

namespace moxie {

// True for every number but NaN and the infinities.
template <class V> MOXIE_FN bool is_finite(V x) { return x - x == V(0); }

}  // namespace moxie
