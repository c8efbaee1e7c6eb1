// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/macros.h"

namespace moxie {

// count = max(totals[1], 1) and mean = totals[0] / count: of no losses at all the mean is 0.
template <class T> struct MeanOfCounted {
  const T* totals;
  T* mean;
  T* count;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const T number = totals[1] > T(1) ? totals[1] : T(1), value = totals[0] / number;
    T *mean_out = mean, *count_out = count;
    team.once([=] {
      *mean_out = value;
      *count_out = number;
    });
  }
};

}  // namespace moxie
