// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/rows.h"

namespace moxie {

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

// out[i] = f(i), or out[i] += f(i), for every i in [0, n). A team may read for several i before it writes to the first.
template <class Team, class T, class F>
MOXIE_FN void store_each(const Team& team, int64_t n, T* out, bool accumulate, F f) {
  using V = Accumulator<T>;
  const auto value_of = [=](int64_t i) {
    const V value = static_cast<V>(f(i));
    return accumulate ? static_cast<V>(static_cast<V>(out[i]) + value) : value;
  };
  team.each(n, value_of, [=](int64_t i, V value) { out[i] = static_cast<T>(value); });
}

// y += x
template <class From, class T> struct Accumulate {
  const From* x;
  T* y;
  int64_t numel;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const From* in = x + row * elementwise_row;
    T* out = y + row * elementwise_row;
    store_each(team, elementwise_count(numel, row), out, true,
               [=](int64_t i) { return static_cast<Accumulator<From>>(in[i]); });
  }
};

}  // namespace moxie
