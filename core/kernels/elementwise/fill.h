// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/rows.h"

namespace moxie {

// y = value
template <class T> struct Fill {
  T* y;
  int64_t numel;
  T value;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    T* out = y + row * elementwise_row;
    const T number = value;
    team.each(elementwise_count(numel, row), [=](int64_t i) { out[i] = number; });
  }
};

}  // namespace moxie
