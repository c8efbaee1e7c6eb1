// SPDX-License-Identifier: Apache-2.0
// Rows between tokens and slots by 16 bytes at a time, a warp to each: of a bf16 read alone too few bytes are under
// way.
#pragma once
#include "core/kernels/index/rows.h"
#include "cuda/packs.cuh"
#include "moe/kernels/combine.h"

namespace moxie::cuda {

// Packs that a thread asks for before it uses the first.
inline constexpr int packs_under_way = 8;

// y[row] = x[index[row]], whatever the rows' bytes mean.
struct PackedGather {
  const unsigned char* x;
  const int32_t* index;
  unsigned char* y;
  int64_t bytes;  // of a row

  MOXIE_DEVICE void operator()(int64_t row) const {
    const unsigned char* const in = x + index[row] * bytes;
    unsigned char* const out = y + row * bytes;
    constexpr int64_t step = int64_t{warp_size} * sizeof(Vector16);
    MOXIE_DO_NOT_UNROLL
    for (int64_t first = lane_index() * int64_t{sizeof(Vector16)}; first < bytes; first += packs_under_way * step) {
      Vector16 packs[packs_under_way];
      MOXIE_UNROLL
      for (int k = 0; k < packs_under_way; ++k)
        if (first + k * step < bytes) packs[k] = load_16(in + first + k * step);
      MOXIE_UNROLL
      for (int k = 0; k < packs_under_way; ++k)
        if (first + k * step < bytes) *reinterpret_cast<Vector16*>(out + first + k * step) = packs[k];
    }
  }
};

// moe::Combine of `count` rows.
template <class T, int count> struct PackedCombine {
  moe::Combine<T> kernel;

  MOXIE_DEVICE void operator()(int64_t token) const {
    constexpr int pack = pack_size<T>, together = count < packs_under_way ? packs_under_way / count : 1;
    constexpr int64_t step = int64_t{warp_size} * pack;
    const int64_t n = kernel.cols;
    const T* row[count];
    float weight[count];
    MOXIE_UNROLL
    for (int j = 0; j < count; ++j) {
      row[j] = kernel.rows + kernel.slot[token * count + j] * n;
      weight[j] = kernel.weights == nullptr ? 1.0f : kernel.weights[token * count + j];
    }
    T* const y = kernel.y + token * n;
    MOXIE_DO_NOT_UNROLL
    for (int64_t first = int64_t{lane_index()} * pack; first < n; first += together * step) {
      Vector16 packs[together][count];
      MOXIE_UNROLL
      for (int k = 0; k < together; ++k) {
        MOXIE_UNROLL
        for (int j = 0; j < count; ++j)
          if (first + k * step < n) packs[k][j] = load_16(row[j] + first + k * step);
      }
      MOXIE_UNROLL
      for (int k = 0; k < together; ++k) {
        if (first + k * step >= n) continue;
        Vector16& out = *reinterpret_cast<Vector16*>(y + first + k * step);
        float total[pack] = {}, before[pack] = {}, values[pack];
        if (kernel.accumulate) unpack<T>(before, out);
        MOXIE_UNROLL
        for (int j = 0; j < count; ++j) {
          unpack<T>(values, packs[k][j]);
          MOXIE_UNROLL
          for (int e = 0; e < pack; ++e) total[e] += weight[j] * values[e];
        }
        MOXIE_UNROLL
        for (int e = 0; e < pack; ++e) total[e] += before[e];
        out = to_pack<T>(total);
      }
    }
  }
};

// moe::CombineBackward: the token's row is read again for each of its assignments, from the cache.
template <class T> struct PackedCombineBackward {
  moe::CombineBackward<T> kernel;

  MOXIE_DEVICE void operator()(int64_t token) const {
    constexpr int pack = pack_size<T>, together = packs_under_way / 2;
    constexpr int64_t step = int64_t{warp_size} * pack;
    const int64_t n = kernel.cols;
    const T* const dy = kernel.dy + token * n;
    MOXIE_DO_NOT_UNROLL
    for (int64_t assignment = token * kernel.top_k; assignment < (token + 1) * kernel.top_k; ++assignment) {
      const int64_t place = kernel.slot[assignment] * n;
      const bool wants_rows = kernel.drows != nullptr, wants_weights = kernel.dweights != nullptr;
      const float weight = wants_rows ? kernel.weights[assignment] : 0.0f;
      float dot[pack] = {};
      MOXIE_DO_NOT_UNROLL
      for (int64_t first = int64_t{lane_index()} * pack; first < n; first += together * step) {
        Vector16 in[together] = {}, g[together] = {};
        MOXIE_UNROLL
        for (int k = 0; k < together; ++k) {
          if (first + k * step >= n) continue;
          g[k] = load_16(dy + first + k * step);
          if (wants_weights) in[k] = load_16(kernel.rows + place + first + k * step);
        }
        MOXIE_UNROLL
        for (int k = 0; k < together; ++k) {
          float values[pack], rows[pack];
          unpack<T>(values, g[k]);
          unpack<T>(rows, in[k]);
          MOXIE_UNROLL
          for (int e = 0; e < pack; ++e) {
            dot[e] += values[e] * rows[e];
            values[e] *= weight;
          }
          if (wants_rows && first + k * step < n)
            *reinterpret_cast<Vector16*>(kernel.drows + place + first + k * step) = to_pack<T>(values);
        }
      }
      if (!wants_weights) continue;
      float part = 0;
      MOXIE_UNROLL
      for (int e = 0; e < pack; ++e) part += dot[e];
      const float total = warp_total(part);
      if (lane_index() == 0) kernel.dweights[assignment] = total;
    }
  }
};

// Calls f with the packed form of the kernel, and gives true; or false, where there is none.
template <class T, class F> bool with_packed(const moe::Combine<T>& kernel, F f) {
  if (!is_packed<T>(kernel.cols, kernel.rows, kernel.y)) return false;
  switch (kernel.top_k) {
    case 1: f(PackedCombine<T, 1>{kernel}); return true;
    case 2: f(PackedCombine<T, 2>{kernel}); return true;
    case 3: f(PackedCombine<T, 3>{kernel}); return true;
    case 4: f(PackedCombine<T, 4>{kernel}); return true;
    case 6: f(PackedCombine<T, 6>{kernel}); return true;
    case 8: f(PackedCombine<T, 8>{kernel}); return true;
    default: return false;
  }
}
template <class T, class F> bool with_packed(const moe::CombineBackward<T>& kernel, F f) {
  if (!is_packed<T>(kernel.cols, kernel.rows, kernel.dy, kernel.drows)) return false;
  f(PackedCombineBackward<T>{kernel});
  return true;
}
template <class T, class F> bool with_packed(const GatherRows<T>& kernel, F f) {
  if (!is_packed<T>(kernel.cols, kernel.x, kernel.y)) return false;
  f(PackedGather{reinterpret_cast<const unsigned char*>(kernel.x), kernel.index,
                 reinterpret_cast<unsigned char*>(kernel.y), kernel.cols * static_cast<int64_t>(sizeof(T))});
  return true;
}

}  // namespace moxie::cuda
