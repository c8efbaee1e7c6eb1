// SPDX-License-Identifier: Apache-2.0
// Indices between tokens, assignments and slots.
#pragma once
#include "core/kernels/elementwise/rows.h"

namespace moxie::moe {

// Of slot s, which holds assignment order[s]: token[s] = order[s] / top_k and slot[order[s]] = s.
struct AssignSlots {
  const int32_t* order;
  int32_t* token;
  int32_t* slot;
  int64_t numel;
  int32_t top_k;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t first = row * elementwise_row;
    const int32_t* assignment = order + first;
    int32_t *token_out = token + first, *slot_out = slot;
    const int32_t k = top_k;
    team.each(elementwise_count(numel, row), [=](int64_t i) {
      token_out[i] = assignment[i] / k;
      slot_out[assignment[i]] = static_cast<int32_t>(first + i);
    });
  }
};

// mean[e] (+)= load of expert e / layers
struct AddLoad {
  const int32_t* offsets;
  double* mean;
  int64_t experts;
  double layers;
  bool add;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const int32_t* start = offsets;
    double* out = mean;
    const double count = layers, kept = add ? 1 : 0;
    team.each(experts, [=](int64_t e) {
      const double share = static_cast<double>(start[e + 1] - start[e]) / count;
      out[e] = kept != 0 ? out[e] + share : share;
    });
  }
};

// y[e] = scale load[e]
template <class T> struct ScaleLoad {
  const double* load;
  T* y;
  int64_t experts;
  double scale;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const double* in = load;
    T* out = y;
    const double factor = scale;
    team.each(experts, [=](int64_t e) { out[e] = static_cast<T>(factor * in[e]); });
  }
};

}  // namespace moxie::moe
