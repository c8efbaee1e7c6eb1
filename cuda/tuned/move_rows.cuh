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

// moe::CombineBackward, `count` rows at a time: the token's row is read once for them.
template <class T, int count> struct PackedCombineBackward {
  moe::CombineBackward<T> kernel;

  MOXIE_DEVICE void operator()(int64_t token) const {
    MOXIE_DO_NOT_UNROLL
    for (int64_t j = 0; j < kernel.top_k; j += count) assignments(token, token * kernel.top_k + j);
  }

 private:
  // Assignments [begin, begin + count), all of the token.
  MOXIE_DEVICE void assignments(int64_t token, int64_t begin) const {
    constexpr int pack = pack_size<T>, together = (packs_under_way + count) / (count + 1);
    constexpr int64_t step = int64_t{warp_size} * pack;
    const int64_t n = kernel.cols;
    const bool wants_rows = kernel.drows != nullptr, wants_weights = kernel.dweights != nullptr;
    const T* const dy = kernel.dy + token * n;
    int64_t place[count];
    float weight[count], dot[count] = {};
    MOXIE_UNROLL
    for (int j = 0; j < count; ++j) {
      place[j] = kernel.slot[begin + j] * n;
      weight[j] = wants_rows ? kernel.weights[begin + j] : 0.0f;
    }
    MOXIE_DO_NOT_UNROLL
    for (int64_t first = int64_t{lane_index()} * pack; first < n; first += together * step) {
      Vector16 gradient[together] = {}, row[together][count] = {};
      MOXIE_UNROLL
      for (int k = 0; k < together; ++k) {
        if (first + k * step >= n) continue;
        gradient[k] = load_16(dy + first + k * step);
        MOXIE_UNROLL
        for (int j = 0; j < count; ++j)
          if (wants_weights) row[k][j] = load_16(kernel.rows + place[j] + first + k * step);
      }
      MOXIE_UNROLL
      for (int k = 0; k < together; ++k) {
        float g[pack], values[pack];
        unpack<T>(g, gradient[k]);
        MOXIE_UNROLL
        for (int j = 0; j < count; ++j) {
          unpack<T>(values, row[k][j]);
          MOXIE_UNROLL
          for (int e = 0; e < pack; ++e) {
            dot[j] += g[e] * values[e];
            values[e] = weight[j] * g[e];
          }
          if (wants_rows && first + k * step < n)
            *reinterpret_cast<Vector16*>(kernel.drows + place[j] + first + k * step) = to_pack<T>(values);
        }
      }
    }
    if (!wants_weights) return;
    MOXIE_UNROLL
    for (int j = 0; j < count; ++j) {
      const float total = warp_total(dot[j]);
      if (lane_index() == 0) kernel.dweights[begin + j] = total;
    }
  }
};

// Each calls f with the packed form of the kernel, and gives true; or false, where there is none.
template <template <class, int> class Packed, class T, class Kernel, class F>
bool with_count(const Kernel& kernel, F f) {
  switch (kernel.top_k) {
    case 1: f(Packed<T, 1>{kernel}); return true;
    case 2: f(Packed<T, 2>{kernel}); return true;
    case 3: f(Packed<T, 3>{kernel}); return true;
    case 4: f(Packed<T, 4>{kernel}); return true;
    case 6: f(Packed<T, 6>{kernel}); return true;
    case 8: f(Packed<T, 8>{kernel}); return true;
    default: return false;
  }
}
template <class T, class F> bool with_packed(const moe::Combine<T>& kernel, F f) {
  return is_packed<T>(kernel.cols, kernel.rows, kernel.y) && with_count<PackedCombine, T>(kernel, f);
}
template <class T, class F> bool with_packed(const moe::CombineBackward<T>& kernel, F f) {
  if (!is_packed<T>(kernel.cols, kernel.rows, kernel.dy, kernel.drows)) return false;
  if (!with_count<PackedCombineBackward, T>(kernel, f)) f(PackedCombineBackward<T, 1>{kernel});
  return true;
}
template <class T, class F> bool with_packed(const GatherRows<T>& kernel, F f) {
  if (!is_packed<T>(kernel.cols, kernel.x, kernel.y)) return false;
  f(PackedGather{reinterpret_cast<const unsigned char*>(kernel.x), kernel.index,
                 reinterpret_cast<unsigned char*>(kernel.y), kernel.cols * static_cast<int64_t>(sizeof(T))});
  return true;
}

}  // namespace moxie::cuda
