// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y = x with its dimensions in another order: y is contiguous of the sizes given, `stride` says how far apart
// neighbours along each of its dimensions are in x.
template <class T> struct StridedCopy {
  static constexpr int max_rank = 8;
  const T* x;
  T* y;
  int rank;
  int64_t size[max_rank];
  int64_t stride[max_rank];
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t cols = size[rank - 1], step = stride[rank - 1];
    int64_t rest = row, first = 0;
    for (int i = rank - 2; i >= 0; --i) {
      first += rest % size[i] * stride[i];
      rest /= size[i];
    }
    const T* in = x + first;
    T* out = y + row * cols;
    if (step == 1)
      team.each(cols, [=](int64_t i) { out[i] = in[i]; });
    else
      team.each(cols, [=](int64_t i) { out[i] = in[i * step]; });
  }
};

// Copies rows of `cols` elements between two arrays with different distances between rows: y (+)= x.
template <class T> struct CopyRows {
  const T* x;
  int64_t x_stride;
  T* y;
  int64_t y_stride;
  int64_t cols;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * x_stride;
    T* out = y + row * y_stride;
    using V = Accumulator<T>;
    if (accumulate)
      team.each(cols, [=](int64_t i) { out[i] = static_cast<T>(V(out[i]) + V(in[i])); });
    else
      team.each(cols, [=](int64_t i) { out[i] = in[i]; });
  }
};

}  // namespace moxie
