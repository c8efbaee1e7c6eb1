// SPDX-License-Identifier: Apache-2.0
// All parameters of an optimizer as one list of rows, so that one launch updates them all.
#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "core/math.h"

namespace moxie {

// One parameter among many: its arrays, and the first of its rows of `optimizer_row` elements.
inline constexpr int64_t optimizer_row = 16 * 1024;
template <class T> struct ParameterSegment {
  T* value;
  T* grad;
  T* first;    // what the optimizer keeps for each element, such as the first moment; null where it keeps nothing
  T* second;   // such as the second moment
  bf16* copy;  // of the value, that forward passes compute with; null: there is none
  int64_t numel;
  int64_t first_row;
  T lr_scale;  // factor of the learning rate
  T decay;     // weight decay
};

// What changes from step to step. Kernels read it from memory, so that a graph can repeat them with other numbers.
template <class T> struct StepRates {
  T lr;
  T correction1 = 1, correction2 = 1;  // Adam's bias corrections 1 - beta^step
};

// Which segment holds row `row`: the last that begins at or before it.
template <class T>
MOXIE_FN const ParameterSegment<T>& segment_of(const ParameterSegment<T>* segments, int64_t count, int64_t row) {
  int64_t low = 0, high = count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (segments[middle].first_row <= row)
      low = middle;
    else
      high = middle - 1;
  }
  return segments[low];
}

// The elements that row `row` covers: the segment moved to the first of them, with `numel` of them.
template <class T>
MOXIE_FN ParameterSegment<T> segment_row(const ParameterSegment<T>* segments, int64_t count, int64_t row) {
  ParameterSegment<T> part = segment_of(segments, count, row);
  const int64_t first = (row - part.first_row) * optimizer_row, left = part.numel - first;
  part.numel = left < optimizer_row ? left : optimizer_row;
  part.value += first;
  part.grad = part.grad ? part.grad + first : nullptr;
  part.first = part.first ? part.first + first : nullptr;
  part.second = part.second ? part.second + first : nullptr;
  part.copy = part.copy ? part.copy + first : nullptr;
  return part;
}

// Renews the copy of a row whose new value has just been written.
template <class T, class Team> MOXIE_FN void renew_copy(Team team, const ParameterSegment<T>& part) {
  if (part.copy == nullptr) return;
  team.sync();
  const T* w = part.value;
  bf16* copy = part.copy;
  team.each(part.numel, [=](int64_t i) { copy[i] = bf16(static_cast<float>(w[i])); });
}

// partial[row] = sum of the squared gradients of a row
template <class T> struct SquaredGradRows {
  const ParameterSegment<T>* segments;
  int64_t count;
  double* partial;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const ParameterSegment<T> part = segment_row(segments, count, row);
    const T* g = part.grad;
    const T total = team.sum(part.numel, [=](int64_t i) { return g[i] * g[i]; });
    double* out = partial + row;
    team.once([=] { *out = static_cast<double>(total); });
  }
};

// norm = sqrt(total) / divisor for the sum of all squared gradients, and the gradients' factor, which divides and
// clips: min(1, clip / norm) / divisor, without a limit for clip = 0. Where the norm isn't finite the factor is NaN,
// and the update kernels, which all begin with `*grad_scale`, change nothing.
template <class T> struct ClipFactor {
  const double* total;
  double* norm;
  T* factor;
  double divisor, clip;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const double length = math::sqrt(*total) / divisor;
    const double shrink = clip > 0 && length > clip ? clip / length : 1;
    const bool finite = length - length == 0;
    const T scale = finite ? static_cast<T>(shrink / divisor) : std::numeric_limits<T>::quiet_NaN();
    double* norm_out = norm;
    T* factor_out = factor;
    team.once([=] {
      *norm_out = length;
      *factor_out = scale;
    });
  }
};

}  // namespace moxie
