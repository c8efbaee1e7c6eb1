// SPDX-License-Identifier: Apache-2.0
// Sixteen bytes as numbers, and what a warp does with rows of them: a bf16 read alone costs as many instructions as an
// f32, and fills half of what is under way.
#pragma once
#include <limits>
#include <type_traits>

#include "core/math.h"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

// How many f32 or bf16 are in 16 bytes.
template <class T> inline constexpr int pack_size = 16 / static_cast<int>(sizeof(T));

template <class T> MOXIE_DEVICE void unpack(float (&to)[pack_size<T>], const Vector16& from) {
  MOXIE_UNROLL
  for (int w = 0; w < 4; ++w) {
    if constexpr (std::is_same_v<T, bf16>) {
      to[2 * w] = low_bf16(from.word[w]);
      to[2 * w + 1] = high_bf16(from.word[w]);
    } else {
      to[w] = std::bit_cast<float>(from.word[w]);
    }
  }
}

// Calls f(values) for every pack of the lane, in ascending order, in a warp's row of n numbers, a multiple of
// pack_size<T> from an address that is a multiple of 16 on. Four are asked for before the first is used.
template <class T, class F> MOXIE_DEVICE void each_pack(const T* row, int64_t n, F f) {
  constexpr int ahead = 4, pack = pack_size<T>, step = warp_size * pack;
  for (int64_t first = int64_t{lane_index()} * pack; first < n; first += ahead * step) {
    Vector16 packs[ahead];
    int count = 0;
    MOXIE_UNROLL
    for (int k = 0; k < ahead; ++k) {
      if (first + k * step >= n) continue;
      packs[k] = load_16(row + first + k * step);
      count = k + 1;
    }
    MOXIE_UNROLL
    for (int k = 0; k < ahead; ++k) {
      if (k >= count) continue;
      float values[pack];
      unpack<T>(values, packs[k]);
      f(values);
    }
  }
}

// The sum of a warp's row, as each_pack() takes it; every lane gets it. Whole warp.
template <class T> MOXIE_DEVICE float sum_of_row(const T* row, int64_t n) {
  constexpr int pack = pack_size<T>;
  float part[pack] = {};
  each_pack<T>(row, n, [&](const float(&values)[pack]) {
    MOXIE_UNROLL
    for (int e = 0; e < pack; ++e) part[e] += values[e];
  });
  MOXIE_UNROLL
  for (int distance = pack / 2; distance > 0; distance /= 2) {
    MOXIE_UNROLL
    for (int e = 0; e < distance; ++e) part[e] += part[e + distance];
  }
  float total = part[0];
  MOXIE_UNROLL
  for (int mask = warp_size / 2; mask > 0; mask /= 2) total += shuffle_xor(total, mask);
  return total;
}

// What the exponents of an online softmax are relative to. Nothing is larger than -inf at first, and -inf - -inf would
// be NaN.
MOXIE_DEVICE float softmax_base(float top) { return top == -std::numeric_limits<float>::infinity() ? 0.0f : top; }

// top = max x, total = sum of exp(x - top) of a warp's row, in one pass. Whole warp.
struct LogSum {
  float top = -std::numeric_limits<float>::infinity(), total = 0;
};
template <class T> MOXIE_DEVICE LogSum log_sum_of_row(const T* row, int64_t n) {
  constexpr int pack = pack_size<T>;
  LogSum s;
  each_pack<T>(row, n, [&](const float(&values)[pack]) {
    const float before = s.top;
    MOXIE_UNROLL
    for (int e = 0; e < pack; ++e) s.top = values[e] > s.top ? values[e] : s.top;
    const float base = softmax_base(s.top);
    s.total *= math::exp_nonpositive(before - base);
    MOXIE_UNROLL
    for (int e = 0; e < pack; ++e) s.total += math::exp_nonpositive(values[e] - base);
  });
  MOXIE_UNROLL
  for (int mask = warp_size / 2; mask > 0; mask /= 2) {
    const float other_top = shuffle_xor(s.top, mask), other_total = shuffle_xor(s.total, mask), mine = s.top;
    s.top = other_top > mine ? other_top : mine;
    const float base = softmax_base(s.top);
    s.total = s.total * math::exp_nonpositive(mine - base) + other_total * math::exp_nonpositive(other_top - base);
  }
  return s;
}

}  // namespace moxie::cuda
