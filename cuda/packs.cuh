// SPDX-License-Identifier: Apache-2.0
// Sixteen bytes as numbers, and what a warp or a block does with rows of them: a bf16 read alone costs as many
// instructions as an f32, and fills half of what is under way.
#pragma once
#include <cmath>
#include <limits>
#include <type_traits>

#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

// How many numbers are in 16 bytes.
template <class T> inline constexpr int pack_size = 16 / static_cast<int>(sizeof(T));

// True where rows of `cols` elements of T begin and end at multiples of 16 bytes in all of these arrays.
template <class T, class... Arrays> bool is_packed(int64_t cols, const Arrays*... arrays) {
  return cols % pack_size<T> == 0 && (... && is_aligned(arrays));
}

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

template <class T> MOXIE_DEVICE Vector16 to_pack(const float (&from)[pack_size<T>]) {
  Vector16 to;
  MOXIE_UNROLL
  for (int w = 0; w < 4; ++w) {
    if constexpr (std::is_same_v<T, bf16>)
      to.word[w] = pack_bf16(from[2 * w], from[2 * w + 1]);
    else
      to.word[w] = std::bit_cast<uint32_t>(from[w]);
  }
  return to;
}

// Calls f(packs) for groups of packs_ahead packs of a row of n numbers, in ascending order; n is a multiple of
// pack_size<T>, and the row begins at a multiple of 16 bytes. Member `rank` of `members` has every so-manieth pack;
// what lies beyond the row is full of the number `none`. The next group is asked for before f() gets one, so that
// something is always under way.
inline constexpr int packs_ahead = 4;
template <class T, class F>
MOXIE_DEVICE void each_group(const T* row, int64_t n, int rank, int members, float none, F f) {
  const int64_t step = int64_t{members} * pack_size<T>;
  Vector16 next[packs_ahead];
  const auto ask = [&](int64_t first) {
    MOXIE_UNROLL
    for (int k = 0; k < packs_ahead; ++k)
      if (first + k * step < n) next[k] = load_16(row + first + k * step);
  };
  float nones[pack_size<T>];
  MOXIE_UNROLL
  for (int e = 0; e < pack_size<T>; ++e) nones[e] = none;
  const Vector16 empty = to_pack<T>(nones);
  int64_t first = int64_t{rank} * pack_size<T>;
  ask(first);
  MOXIE_DO_NOT_UNROLL
  for (; first < n; first += packs_ahead * step) {
    Vector16 packs[packs_ahead];
    MOXIE_UNROLL
    for (int k = 0; k < packs_ahead; ++k) packs[k] = first + k * step < n ? next[k] : empty;
    ask(first + packs_ahead * step);
    f(packs);
  }
}

// The sum of a warp's values; every lane gets it. Whole warp.
MOXIE_DEVICE float warp_total(float value) {
  MOXIE_UNROLL
  for (int mask = warp_size / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}

// What member `rank` of `members` has of the sum of a row, as each_group() takes it.
template <class T> MOXIE_DEVICE float sum_of_packs(const T* row, int64_t n, int rank, int members) {
  constexpr int pack = pack_size<T>;
  float part[pack] = {};
  each_group<T>(row, n, rank, members, 0, [&](const Vector16(&packs)[packs_ahead]) {
    MOXIE_UNROLL
    for (int k = 0; k < packs_ahead; ++k) {
      float values[pack];
      unpack<T>(values, packs[k]);
      MOXIE_UNROLL
      for (int e = 0; e < pack; ++e) part[e] += values[e];
    }
  });
  MOXIE_UNROLL
  for (int distance = pack / 2; distance > 0; distance /= 2) {
    MOXIE_UNROLL
    for (int e = 0; e < distance; ++e) part[e] += part[e + distance];
  }
  return part[0];
}

// What the exponents of an online softmax are relative to. Nothing is larger than -inf at first, and -inf - -inf would
// be NaN.
MOXIE_DEVICE float softmax_base(float top) { return top == -std::numeric_limits<float>::infinity() ? 0.0f : top; }
// exp(x) for what is added up: its error is small beside exp(0), not beside itself.
MOXIE_DEVICE float exp_of_difference(float x) { return exp2_fast(x * static_cast<float>(log2_e)); }

// top = max x, total = sum of exp(x - top), of all or of some numbers of a row.
struct LogSum {
  float top = -std::numeric_limits<float>::infinity(), total = 0;
};
MOXIE_DEVICE LogSum operator+(const LogSum& x, const LogSum& y) {
  LogSum s;
  s.top = ::fmaxf(y.top, x.top);
  const float base = softmax_base(s.top);
  s.total = x.total * exp_of_difference(x.top - base) + y.total * exp_of_difference(y.top - base);
  return s;
}
// Of what member `rank` of `members` has of a row, as each_group() takes it, in one pass.
template <class T> MOXIE_DEVICE LogSum log_sum_of_packs(const T* row, int64_t n, int rank, int members) {
  constexpr int pack = pack_size<T>;
  LogSum s;
  each_group<T>(row, n, rank, members, s.top, [&](const Vector16(&packs)[packs_ahead]) {
    // One chain for each pack, so that nothing waits long for the last addition.
    float values[packs_ahead][pack], part[packs_ahead];
    MOXIE_UNROLL
    for (int k = 0; k < packs_ahead; ++k) {
      unpack<T>(values[k], packs[k]);
      part[k] = values[k][0];
      MOXIE_UNROLL
      for (int e = 1; e < pack; ++e) part[k] = ::fmaxf(part[k], values[k][e]);
    }
    const float before = s.top;
    s.top = ::fmaxf(::fmaxf(before, part[0]), ::fmaxf(::fmaxf(part[1], part[2]), part[3]));
    const float base = softmax_base(s.top);
    MOXIE_UNROLL
    for (int k = 0; k < packs_ahead; ++k) {
      part[k] = exp_of_difference(values[k][0] - base);
      MOXIE_UNROLL
      for (int e = 1; e < pack; ++e) part[k] += exp_of_difference(values[k][e] - base);
    }
    s.total = s.total * exp_of_difference(before - base) + ((part[0] + part[1]) + (part[2] + part[3]));
  });
  return s;
}
// The sum over a warp's lanes; every lane gets it. Whole warp.
MOXIE_DEVICE LogSum warp_total(LogSum s) {
  MOXIE_UNROLL
  for (int mask = warp_size / 2; mask > 0; mask /= 2)
    s = s + LogSum{shuffle_xor(s.top, mask), shuffle_xor(s.total, mask)};
  return s;
}

}  // namespace moxie::cuda
