// SPDX-License-Identifier: Apache-2.0
// RMSNorm's backward pass with the weight's gradient, by chunks of rows: a row lies in the registers of a warp or of a
// whole block, and so does what its columns add to the weight's gradient. Memory is read once.
#pragma once
#include "core/kernels/normalize/rms_norm.h"
#include "cuda/packs.cuh"

namespace moxie::cuda {

inline constexpr int norm_warps = 8, norm_threads = norm_warps * warp_size;

// What the warps of a block tell each other: sums over a row that all of them have, by turns; or each one's share of
// the weight's gradient, for one pack of every lane.
template <class T> union NormMemory {
  float dot[2][norm_warps];
  float part[norm_warps][warp_size * pack_size<T>];
};

// `packs` packs of 16 bytes to a thread, of rows that a warp each takes, or all warps of the block together.
template <class T, int packs, bool by_block> struct NormBackward {
  static constexpr int pack = pack_size<T>, members = by_block ? norm_threads : warp_size;
  static constexpr int64_t most_columns = int64_t{members} * packs * pack;

  static MOXIE_DEVICE int member() { return by_block ? thread_index() : lane_index(); }
  static MOXIE_DEVICE int64_t column(int k) { return (member() + int64_t{k} * members) * pack; }

  static MOXIE_DEVICE float total_of_row(float dot, int64_t row, NormMemory<T>& memory) {
    dot = warp_total(dot);
    if constexpr (by_block) {
      float* const shared = memory.dot[row % 2];  // the next row's sums don't wait until these are read
      if (lane_index() == 0) shared[warp_index()] = dot;
      sync_threads();
      dot = 0;
      MOXIE_UNROLL
      for (int w = 0; w < norm_warps; ++w) dot += shared[w];
    }
    return dot;
  }

  // Chunk number `index`, by a block of norm_threads.
  static MOXIE_DEVICE void run(const RmsNormBackwardChunk<T>& kernel, int64_t index, NormMemory<T>& memory) {
    const RmsNormBackward<T>& norm = kernel.norm;
    const int64_t n = norm.cols, first = index * kernel.chunk, left = kernel.rows - first;
    const int64_t last = first + (left < kernel.chunk ? left : kernel.chunk);
    float* const partial = kernel.partial + index * n;
    float weighed[packs][pack] = {};
    MOXIE_DO_NOT_UNROLL
    for (int64_t row = first + (by_block ? 0 : warp_index()); row < last; row += by_block ? 1 : norm_warps) {
      Vector16 x[packs] = {}, dy[packs] = {}, added[packs] = {};
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) {
        if (column(k) >= n) continue;
        x[k] = load_16(norm.x + row * n + column(k));
        dy[k] = load_16(norm.dy + row * n + column(k));
        if (norm.added) added[k] = *reinterpret_cast<const Vector16*>(norm.added + row * n + column(k));  // may be dx
      }
      const float r = norm.rstd[row];
      float dot = 0;
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) {
        float in[pack], g[pack], weight[pack];
        read(k, x[k], dy[k], norm, in, g, weight);
        MOXIE_UNROLL
        for (int e = 0; e < pack; ++e) dot += g[e] * weight[e] * in[e];
      }
      const float pull = total_of_row(dot, row - first, memory) * r * r / static_cast<float>(n);
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) {
        float in[pack], g[pack], weight[pack], more[pack], dx[pack];
        read(k, x[k], dy[k], norm, in, g, weight);
        unpack<T>(more, added[k]);
        MOXIE_UNROLL
        for (int e = 0; e < pack; ++e) {
          dx[e] = more[e] + r * (g[e] * weight[e] - in[e] * pull);
          weighed[k][e] += g[e] * in[e] * r;
        }
        if (column(k) < n) *reinterpret_cast<Vector16*>(norm.dx + row * n + column(k)) = to_pack<T>(dx);
      }
    }
    MOXIE_UNROLL
    for (int k = 0; k < packs; ++k) {
      if constexpr (!by_block) add_up(weighed[k], memory);
      if ((!by_block && warp_index() != 0) || column(k) >= n) continue;
      MOXIE_UNROLL
      for (int e = 0; e < pack; ++e) partial[column(k) + e] = weighed[k][e];
    }
  }

 private:
  static MOXIE_DEVICE void read(int k, const Vector16& x, const Vector16& dy, const RmsNormBackward<T>& norm,
                                float (&in)[pack], float (&g)[pack], float (&weight)[pack]) {
    unpack<T>(in, x);
    unpack<T>(g, dy);
    MOXIE_UNROLL
    for (int e = 0; e < pack; e += 4) {
      const Vector16 four = column(k) < norm.cols ? load_16(norm.weight + column(k) + e) : Vector16{};
      MOXIE_UNROLL
      for (int j = 0; j < 4; ++j) weight[e + j] = std::bit_cast<float>(four.word[j]);
    }
  }
  // The first warp gets the sums over all, in their order. Whole block.
  static MOXIE_DEVICE void add_up(float (&weighed)[pack], NormMemory<T>& memory) {
    MOXIE_UNROLL
    for (int e = 0; e < pack; ++e) memory.part[warp_index()][e * warp_size + lane_index()] = weighed[e];
    sync_threads();
    if (warp_index() == 0) {
      MOXIE_UNROLL
      for (int w = 1; w < norm_warps; ++w) {
        MOXIE_UNROLL
        for (int e = 0; e < pack; ++e) weighed[e] += memory.part[w][e * warp_size + lane_index()];
      }
    }
    sync_threads();
  }
};

// Calls launch.operator()<packs, by_block>() for what takes rows of `cols` columns; false where they are too long, or
// arrays don't begin and rows don't end at multiples of 16 bytes.
template <class T, class Launch> bool with_norm_backward(const RmsNormBackward<T>& norm, Launch launch) {
  const bool packed = norm.cols % pack_size<T> == 0 && is_aligned(norm.x) && is_aligned(norm.dy) &&
                      is_aligned(norm.added) && is_aligned(norm.dx) && is_aligned(norm.weight);
  if (!packed) return false;
  bool launched = false;
  const auto offer = [&]<int packs, bool by_block>() {
    if (launched || norm.cols > NormBackward<T, packs, by_block>::most_columns) return;
    launched = true;
    launch.template operator()<packs, by_block>();
  };
  offer.template operator()<1, false>();
  offer.template operator()<2, false>();
  offer.template operator()<3, false>();
  offer.template operator()<4, false>();
  offer.template operator()<1, true>();
  offer.template operator()<2, true>();
  offer.template operator()<4, true>();
  return launched;
}

}  // namespace moxie::cuda
