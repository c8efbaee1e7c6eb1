// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cstdint>
#include <limits>

#include "core/dtype.h"
#include "core/macros.h"

namespace moxie {

// An integer that orders as the numbers do, with -0 equal to 0 and NaN below everything.
MOXIE_FN int64_t order_key(double value) {
  constexpr int64_t nan_key = std::numeric_limits<int64_t>::min() + 1;  // below the key of minus infinity
  const int64_t bits = std::bit_cast<int64_t>(value + 0.0);
  const int64_t key = bits < 0 ? bits ^ std::numeric_limits<int64_t>::max() : bits;
  return value != value ? nan_key : key;
}

// The k largest of a row in falling order, the lowest index first among equals: each pass takes the best element that
// comes after the previous one.
template <class T> struct TopKRows {
  const T* x;
  T* values;
  int32_t* indices;
  int64_t cols, k;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    int64_t last_key = std::numeric_limits<int64_t>::max(), last = -1;
    for (int64_t pass = 0; pass < k; ++pass) {
      const int64_t best = team.argmax(cols, [=](int64_t i) {
        const int64_t key = order_key(static_cast<double>(Accumulator<T>(in[i])));
        const bool left = key < last_key || (key == last_key && i > last);
        return left ? key : std::numeric_limits<int64_t>::min();
      });
      last = best;
      last_key = order_key(static_cast<double>(Accumulator<T>(in[best])));
      T* value = values + row * k + pass;
      int32_t* index = indices + row * k + pass;
      team.once([=] {
        *value = in[best];
        *index = static_cast<int32_t>(best);
      });
    }
  }
};

}  // namespace moxie
