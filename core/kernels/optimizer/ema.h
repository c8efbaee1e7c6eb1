// SPDX-License-Identifier: Apache-2.0
// The moving average of weights over all parameters in one launch; the average is a segment's `first`.
#pragma once
#include "core/kernels/optimizer/segments.h"

namespace moxie {

// average += share (w - average), share = 1 - decay
template <class T> struct EmaRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  T share;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const ParameterSegment<T> part = segment_row(segments, count, row);
    const T *w = part.value, part_of_new = share;
    T* average = part.first;
    team.each(part.numel, [=](int64_t i) { average[i] += part_of_new * (w[i] - average[i]); });
  }
};

// Exchanges weights and averages.
template <class T> struct SwapRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const ParameterSegment<T> part = segment_row(segments, count, row);
    T *w = part.value, *average = part.first;
    team.each(part.numel, [=](int64_t i) {
      const T value = w[i];
      w[i] = average[i];
      average[i] = value;
    });
  }
};

}  // namespace moxie
