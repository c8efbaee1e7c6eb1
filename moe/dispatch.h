// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"

namespace moxie::moe {

// Calls f with a value of the type in which routers and losses compute: double for f64, float for everything else.
template <class F> void dispatch_statistics(Dtype dtype, F&& f) {
  if (dtype == Dtype::f64)
    f(double{});
  else
    f(float{});
}

}  // namespace moxie::moe
