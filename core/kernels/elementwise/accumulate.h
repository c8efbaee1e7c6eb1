// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/rows.h"

namespace moxie {

// y += x
template <class From, class T> struct Accumulate {
  const From* x;
  T* y;
  int64_t numel;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const From* in = x + row * elementwise_row;
    T* out = y + row * elementwise_row;
    using Value = Accumulator<T>;
    team.each(elementwise_count(numel, row), [=](int64_t i) {
      out[i] = static_cast<T>(static_cast<Value>(out[i]) + static_cast<Value>(static_cast<Accumulator<From>>(in[i])));
    });
  }
};

// Calls f with the flag as a constant, so that each case becomes a loop of its own.
template <class F> MOXIE_FN void branch(bool flag, F f) {
  if (flag)
    f(std::true_type());
  else
    f(std::false_type());
}

// Writes `value`, or adds it where a gradient is there already.
template <class T> MOXIE_FN void store(T& out, Accumulator<T> value, bool accumulate) {
  out = static_cast<T>(accumulate ? static_cast<Accumulator<T>>(out) + value : value);
}

}  // namespace moxie
