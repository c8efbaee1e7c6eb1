// SPDX-License-Identifier: Apache-2.0
// The largest or the smallest number of a line and where it is: the first NaN where there is one, otherwise the lowest
// index among equals. `direction` is 1 for the largest and -1 for the smallest.
#pragma once
#include <limits>

#include "core/dtype.h"
#include "core/macros.h"

namespace moxie {

// Lines along memory: x [rows, n] cut into pieces -> value and index [rows, pieces]. Where `source` is given, x are the
// values of such pieces, and it has the index that each stands for.
template <class T> struct ExtremeOfRow {
  static constexpr int64_t piece = 16384;  // its indices are exact as floats
  const T* x;
  const int32_t* source;
  T* value;
  int32_t* index;
  int64_t n, pieces;
  Accumulator<T> direction;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    constexpr V infinity = std::numeric_limits<V>::infinity();
    const int64_t begin = row % pieces * piece, count = n - begin < piece ? n - begin : piece;
    const int64_t first = row / pieces * n + begin;
    const T* in = x + first;
    const V sign = direction;
    const V top = team.max(count, [=](int64_t i) {
      const V key = sign * V(in[i]);
      return key != key ? infinity : key;
    });
    bool has_nan = false;
    if (top == infinity)
      has_nan = team.max(count, [=](int64_t i) { return V(in[i]) != V(in[i]) ? V(1) : V(0); }) > V(0);
    // the lowest index is the largest of its negatives
    const V negative_index = team.max(count, [=](int64_t i) {
      const V key = sign * V(in[i]);
      const bool hit = has_nan ? key != key : key == top;
      return hit ? -static_cast<V>(static_cast<int32_t>(i)) : -infinity;
    });
    const auto at = static_cast<int64_t>(-negative_index);
    const int32_t* inside = source == nullptr ? nullptr : source + first;
    T* best = value + row;
    int32_t* best_index = index + row;
    team.once([=] {
      *best = in[at];
      *best_index = inside == nullptr ? static_cast<int32_t>(begin + at) : inside[at];
    });
  }
};

// Lines across memory: x [outer, n, inner] -> value and index [outer, inner]. A row is a strip of the columns.
template <class T> struct ExtremeOfColumns {
  static constexpr int64_t strip = 1024;
  const T* x;
  T* value;
  int32_t* index;
  int64_t n, inner, strips;
  Accumulator<T> direction;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t outer = row / strips, begin = row % strips * strip, stride = inner;
    const int64_t cols = inner - begin < strip ? inner - begin : strip;
    const T* in = x + outer * n * stride + begin;
    T* best = value + outer * stride + begin;
    int32_t* best_index = index + outer * stride + begin;
    const V sign = direction;
    team.each(cols, [=](int64_t j) {
      best[j] = in[j];
      best_index[j] = 0;
    });
    for (int64_t k = 1; k < n; ++k) {
      const T* line = in + k * stride;
      const auto place = static_cast<int32_t>(k);
      team.each(cols, [=](int64_t j) {
        const T candidate = line[j], champion = best[j];
        const V a = sign * V(candidate), b = sign * V(champion);
        const bool better = (a > b) | ((a != a) & (b == b));
        best[j] = better ? candidate : champion;
        best_index[j] = better ? place : best_index[j];
      });
    }
  }
};

}  // namespace moxie
