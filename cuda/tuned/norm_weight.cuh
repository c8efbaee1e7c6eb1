// SPDX-License-Identifier: Apache-2.0
// The weight's gradient of RMSNorm in chunks of rows, a thread to every four columns: the generic kernel's threads read
// numbers of two bytes and have few of them under way.
#pragma once
#include "core/kernels/normalize/rms_norm.h"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

inline constexpr int norm_weight_threads = 192;

template <class T> struct NormWeightColumns {
  static constexpr int pack = 4;
  static constexpr int ahead = 8;  // rows that are asked for before the first is added
  struct alignas(sizeof(T) * pack) Packed {
    T part[pack];
  };

  static bool fits(const RmsNormWeightPartial<T>& kernel) {
    return kernel.cols % pack == 0 && is_aligned(kernel.x, sizeof(Packed)) && is_aligned(kernel.dy, sizeof(Packed));
  }
  static int64_t strips(const RmsNormWeightPartial<T>& kernel) {
    return (kernel.cols + norm_weight_threads * pack - 1) / (norm_weight_threads * pack);
  }

  // Columns of a strip of norm_weight_threads * pack of chunk number `index`.
  static MOXIE_DEVICE void run(const RmsNormWeightPartial<T>& kernel, int64_t index, int64_t strip) {
    const int64_t n = kernel.cols, col = (strip * norm_weight_threads + thread_index()) * pack;
    const bool inside = col < n;
    const int64_t first = index * kernel.chunk, left = kernel.rows - first;
    const int64_t rows = left < kernel.chunk ? left : kernel.chunk, at = first * n + (inside ? col : 0);
    const T *x = kernel.x + at, *dy = kernel.dy + at;
    const float* scale = kernel.rstd + first;
    float total[pack] = {};
    const auto add = [&](const Packed& in, const Packed& g, float r) {
      MOXIE_UNROLL
      for (int p = 0; p < pack; ++p) total[p] += static_cast<float>(g.part[p]) * static_cast<float>(in.part[p]) * r;
    };
    int64_t k = 0;
    MOXIE_DO_NOT_UNROLL
    for (; k + ahead <= rows; k += ahead, x += ahead * n, dy += ahead * n) {
      Packed in[ahead], g[ahead];
      MOXIE_UNROLL
      for (int a = 0; a < ahead; ++a) {
        in[a] = *reinterpret_cast<const Packed*>(x + a * n);
        g[a] = *reinterpret_cast<const Packed*>(dy + a * n);
      }
      sync_warp();  // or the compiler has loads and additions take turns, to save registers
      MOXIE_UNROLL
      for (int a = 0; a < ahead; ++a) add(in[a], g[a], scale[k + a]);
    }
    MOXIE_DO_NOT_UNROLL
    for (; k < rows; ++k, x += n, dy += n)
      add(*reinterpret_cast<const Packed*>(x), *reinterpret_cast<const Packed*>(dy), scale[k]);
    if (!inside) return;
    MOXIE_UNROLL
    for (int p = 0; p < pack; ++p) kernel.partial[index * n + col + p] = total[p];
  }
};

}  // namespace moxie::cuda
