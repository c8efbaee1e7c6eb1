// SPDX-License-Identifier: Apache-2.0
// RMSNorm's backward pass with the weight's gradient, by chunks of rows: a row lies in the registers of a warp or of a
// whole block, and so does what its columns add to the weight's gradient. Memory is read once.
#pragma once
#include "core/kernels/normalize/rms_norm.h"
#include "cuda/packs.cuh"

namespace moxie::cuda {

inline constexpr int norm_warps = 8, norm_threads = norm_warps * warp_size;

// `packs` packs of 16 bytes to a thread, of rows that a warp each takes, or all warps of the block together.
template <class T, int packs, bool by_block> struct NormBackward {
  static constexpr int pack = pack_size<T>, members = by_block ? norm_threads : warp_size;
  static constexpr int most_columns = members * packs * pack;
  // Whether the next row is asked for while all warps of the block wait for each other; it takes registers.
  static constexpr bool reads_ahead = by_block && packs <= 2;

  struct Memory {
    alignas(16) float weight[most_columns];  // in registers they would leave room for few warps
    // What the warps tell each other: sums over a row that all of them have, by turns; or each one's share of the
    // weight's gradient, for one pack of every lane.
    union {
      float dot[2][norm_warps];
      float part[norm_warps][warp_size * pack];
    };
  };

  static MOXIE_DEVICE int member() { return by_block ? thread_index() : lane_index(); }
  static MOXIE_DEVICE int column(int k) { return (member() + k * members) * pack; }

  // This thread's part of a row.
  struct Held {
    Vector16 x[packs] = {}, dy[packs] = {}, added[packs] = {};

    MOXIE_DEVICE void read(const RmsNormBackward<T>& norm, int64_t row) {
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) {
        if (column(k) >= norm.cols) continue;
        const int64_t at = row * norm.cols + column(k);
        x[k] = load_16(norm.x + at);
        dy[k] = load_16(norm.dy + at);
      }
    }
    MOXIE_DEVICE void read_added(const RmsNormBackward<T>& norm, int64_t row) {
      if (!norm.added) return;
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) {
        if (column(k) >= norm.cols) continue;
        added[k] = *reinterpret_cast<const Vector16*>(norm.added + row * norm.cols + column(k));  // may be dx
      }
    }
    MOXIE_DEVICE void unpack_pack(int k, const Memory& memory, float (&in)[pack], float (&g)[pack],
                                  float (&weight)[pack]) const {
      unpack<T>(in, x[k]);
      unpack<T>(g, dy[k]);
      MOXIE_UNROLL
      for (int e = 0; e < pack; e += 4) {
        const Vector16 four = *reinterpret_cast<const Vector16*>(memory.weight + column(k) + e);
        MOXIE_UNROLL
        for (int j = 0; j < 4; ++j) weight[e + j] = std::bit_cast<float>(four.word[j]);
      }
    }
  };

  static MOXIE_DEVICE float total_of_row(float dot, int64_t row, Memory& memory) {
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
  static MOXIE_DEVICE void run(const RmsNormBackwardChunk<T>& kernel, int64_t index, Memory& memory) {
    const RmsNormBackward<T>& norm = kernel.norm;
    const int n = static_cast<int>(norm.cols);
    const int64_t first = index * kernel.chunk, left = kernel.rows - first;
    const int64_t last = first + (left < kernel.chunk ? left : kernel.chunk);
    float* const partial = kernel.partial + index * n;
    for (int i = thread_index(); i < most_columns; i += norm_threads) memory.weight[i] = i < n ? norm.weight[i] : 0.0f;
    sync_threads();
    constexpr int step = by_block ? 1 : norm_warps;
    const int64_t begin = first + (by_block ? 0 : warp_index());
    Held next;
    const auto ask = [&](int64_t row) { next.read(norm, row), next.read_added(norm, row); };
    if (reads_ahead && begin < last) ask(begin);
    float weighed[packs][pack] = {};
    MOXIE_DO_NOT_UNROLL
    for (int64_t row = begin; row < last; row += step) {
      Held held = next;
      if constexpr (!reads_ahead)
        held.read(norm, row);
      else if (row + step < last)
        ask(row + step);
      const float r = norm.rstd[row];
      sync_warp();  // or the compiler keeps the weights in registers
      float dot = 0;
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) {
        float in[pack], g[pack], weight[pack];
        held.unpack_pack(k, memory, in, g, weight);
        MOXIE_UNROLL
        for (int e = 0; e < pack; ++e) dot += g[e] * weight[e] * in[e];
      }
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) renew(held.x[k]), renew(held.dy[k]);
      sync_warp();                                             // and the weights are read again
      if constexpr (!reads_ahead) held.read_added(norm, row);  // late, to have room for more warps
      const float pull = total_of_row(dot, row - first, memory) * r * r / static_cast<float>(n);
      MOXIE_UNROLL
      for (int k = 0; k < packs; ++k) {
        float in[pack], g[pack], weight[pack], more[pack], dx[pack];
        held.unpack_pack(k, memory, in, g, weight);
        unpack<T>(more, held.added[k]);
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
  // The first warp gets the sums over all, in their order. Whole block.
  static MOXIE_DEVICE void add_up(float (&weighed)[pack], Memory& memory) {
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
  if (!is_packed<T>(norm.cols, norm.x, norm.dy, norm.added, norm.dx)) return false;
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
