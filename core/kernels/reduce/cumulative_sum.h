// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y[o, k, j] (+)= the sum of x[o, 0 .. k, j] (exclusive: without k; reverse: from the end), x [outer, n, inner]. A row
// is a strip of the columns; running [outer, inner] is scratch. Added up in f64, since the error grows with every step.
template <class T> struct CumulativeSum {
  static constexpr int64_t strip = 1024;
  using V = Accumulator<T>;
  const T* x;
  T* y;
  double* running;
  int64_t n, inner, strips;
  bool exclusive, reverse, accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t outer = row / strips, begin = row % strips * strip, size = n;
    const int64_t cols = inner - begin < strip ? inner - begin : strip;
    const int64_t first = (outer * n + (reverse ? n - 1 : 0)) * inner + begin, stride = reverse ? -inner : inner;
    const T* in = x + first;
    T* out = y + first;
    double* total = running + outer * inner + begin;
    const bool without = exclusive, one_line = inner == 1;
    branch(accumulate, [=](auto add) {
      if (one_line) {
        team.once([=] {
          double sum = 0;
          for (int64_t k = 0; k < size; ++k) {
            const double next = sum + static_cast<double>(V(in[k * stride]));
            store(out[k * stride], static_cast<V>(without ? sum : next), add);
            sum = next;
          }
        });
        return;
      }
      team.each(cols, [=](int64_t j) { total[j] = 0; });
      for (int64_t k = 0; k < size; ++k) {
        const T* line = in + k * stride;
        T* place = out + k * stride;
        team.each(cols, [=](int64_t j) {
          const double sum = total[j], next = sum + static_cast<double>(V(line[j]));
          total[j] = next;
          store(place[j], static_cast<V>(without ? sum : next), add);
        });
      }
    });
  }
};

}  // namespace moxie
