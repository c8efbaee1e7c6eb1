// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "core/macros.h"

namespace moxie {

// y [y_size..] = x [x_size..] moved `before[i]` along each dimension, `value` around it. A row is one of y.
template <class T> struct Pad {
  static constexpr int max_rank = 8;
  const T* x;
  T* y;
  T value;
  int rank;
  int64_t x_size[max_rank];
  int64_t y_size[max_rank];
  int64_t before[max_rank];
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t cols = y_size[rank - 1];
    int64_t rest = row, x_row = 0, step = 1;
    bool inside = true;
    for (int i = rank - 2; i >= 0; --i) {
      const int64_t index = rest % y_size[i] - before[i];
      rest /= y_size[i];
      inside = inside && index >= 0 && index < x_size[i];
      x_row += index * step;
      step *= x_size[i];
    }
    const T around = value;
    T* out = y + row * cols;
    const int64_t left = inside ? before[rank - 1] : cols, middle = inside ? x_size[rank - 1] : 0;
    team.each(left, [=](int64_t i) { out[i] = around; });
    if (!inside) return;
    const T* in = x + x_row * middle;
    T *center = out + left, *right = center + middle;
    team.each(middle, [=](int64_t i) { center[i] = in[i]; });
    team.each(cols - left - middle, [=](int64_t i) { right[i] = around; });
  }
};

}  // namespace moxie
