// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <type_traits>

#include "core/macros.h"
#include "core/team.h"

namespace moxie {

// out[i] = sum over k < lines of at(k)(i) for every i in [0, cols), in the order of k. The CPU goes line by line, a
// thread of a GPU down its own columns, with the sum in a register.
template <class Team, class V, class At>
MOXIE_FN void sum_lines(const Team& team, int64_t lines, int64_t cols, V* out, At at) {
  if constexpr (std::is_same_v<Team, SerialTeam>) {
    team.each(cols, [=](int64_t i) { out[i] = V(0); });
    for (int64_t k = 0; k < lines; ++k) {
      const auto line = at(k);
      team.each(cols, [=](int64_t i) { out[i] += line(i); });
    }
  } else {
    team.each(cols, [=](int64_t i) {
      V total = V(0);
#ifdef __CUDACC__
#pragma unroll 8
#endif
      for (int64_t k = 0; k < lines; ++k) total += at(k)(i);
      out[i] = total;
    });
  }
}

}  // namespace moxie
