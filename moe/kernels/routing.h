// SPDX-License-Identifier: Apache-2.0
// The load of experts, from the offsets of their slots.
#pragma once
#include <cstdint>

#include "core/macros.h"

namespace moxie::moe {

// mean[e] (+)= load of expert e / layers
struct AddLoad {
  const int32_t* offsets;
  double* mean;
  int64_t experts;
  double layers;
  bool add;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const int32_t* start = offsets;
    double* out = mean;
    const double count = layers, kept = add ? 1 : 0;
    team.each(experts, [=](int64_t e) {
      const double share = static_cast<double>(start[e + 1] - start[e]) / count;
      out[e] = kept != 0 ? out[e] + share : share;
    });
  }
};

// y[e] = scale load[e]
template <class T> struct ScaleLoad {
  const double* load;
  T* y;
  int64_t experts;
  double scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const double* in = load;
    T* out = y;
    const double factor = scale;
    team.each(experts, [=](int64_t e) { out[e] = static_cast<T>(factor * in[e]); });
  }
};

}  // namespace moxie::moe
