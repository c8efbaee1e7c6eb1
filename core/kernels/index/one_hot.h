// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"
#include "core/macros.h"

namespace moxie {

// y[row, i] = 1 for i = index[row], otherwise 0
template <class T> struct OneHot {
  const int32_t* index;
  T* y;
  int64_t classes;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t hot = index[row];
    T* out = y + row * classes;
    team.each(classes, [=](int64_t i) { out[i] = static_cast<T>(i == hot ? V(1) : V(0)); });
  }
};

}  // namespace moxie
