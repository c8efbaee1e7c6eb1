// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y = factor x / divisor of one number, in double and rounded once: what makes a mean out of a sum, where the sum lies.
template <class T> struct ScaleTotal {
  const T* x;
  T* y;
  double factor, divisor;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const T* in = x;
    T* out = y;
    const double scale = factor, by = divisor;
    team.once([=] { *out = static_cast<T>(static_cast<double>(*in) * scale / by); });
  }
};

}  // namespace moxie
