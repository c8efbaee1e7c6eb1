// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/rows.h"

namespace moxie {

// y = x in another dtype; bf16 goes through float.
template <class From, class To> struct Convert {
  const From* x;
  To* y;
  int64_t numel;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const From* in = x + row * elementwise_row;
    To* out = y + row * elementwise_row;
    team.each(
        elementwise_count(numel, row), [=](int64_t i) { return static_cast<Accumulator<From>>(in[i]); },
        [=](int64_t i, Accumulator<From> value) { out[i] = static_cast<To>(static_cast<Accumulator<To>>(value)); });
  }
};

}  // namespace moxie
