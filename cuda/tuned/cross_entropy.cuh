// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/loss/cross_entropy.h"
#include "cuda/packs.cuh"

namespace moxie::cuda {

// What CrossEntropy does with a row, by one warp; rows begin and end at multiples of 16 bytes.
template <class T> MOXIE_DEVICE void cross_entropy_row(const CrossEntropy<T>& kernel, int64_t row) {
  const T* const in = kernel.x + row * kernel.cols;
  const int32_t target = kernel.targets[row];
  const bool counts = target != kernel.ignored;
  const float wanted = counts ? static_cast<float>(in[target]) : 0.0f;  // first: waits together with the row
  const LogSum s = warp_total(log_sum_of_packs(in, kernel.cols, lane_index(), warp_size));
  if (lane_index() != 0) return;
  const float log_total = math::log(s.total);
  kernel.lse[row] = s.top + log_total;
  kernel.loss[row] = counts ? (s.top - wanted) + log_total : 0.0f;  // in this order: large x don't cost it its digits
  kernel.counted[row] = counts ? 1.0f : 0.0f;
}

// What CrossEntropyInPlace does with a row, by one block: few rows are under way at a time, so that the second pass
// finds them in the cache.
inline constexpr int loss_threads = 320, loss_warps = loss_threads / warp_size;
struct LossMemory {
  LogSum part[loss_warps];
};
template <class T>
MOXIE_DEVICE void cross_entropy_in_place(const CrossEntropyInPlace<T>& kernel, int64_t row, LossMemory& memory) {
  constexpr int pack = pack_size<T>;
  constexpr int64_t step = int64_t{loss_threads} * pack;
  const int64_t n = kernel.cols;
  T* const in = kernel.x + row * n;
  const int32_t target = kernel.targets[row];
  const bool counts = target != kernel.ignored;
  const float aimed = counts ? static_cast<float>(in[target]) : 0.0f;
  LogSum s = warp_total(log_sum_of_packs(in, n, thread_index(), loss_threads));
  if (lane_index() == 0) memory.part[warp_index()] = s;
  sync_threads();
  s = warp_total(lane_index() < loss_warps ? memory.part[lane_index()] : LogSum{});
  const float log_total = math::log(s.total), shift = s.top + log_total;
  if (thread_index() == 0) {
    kernel.loss[row] = counts ? (s.top - aimed) + log_total : 0.0f;
    kernel.counted[row] = counts ? 1.0f : 0.0f;
  }
  MOXIE_DO_NOT_UNROLL
  for (int64_t first = int64_t{thread_index()} * pack; first < n; first += packs_ahead * step) {
    Vector16 packs[packs_ahead];
    MOXIE_UNROLL
    for (int k = 0; k < packs_ahead; ++k)
      if (first + k * step < n) packs[k] = *reinterpret_cast<const Vector16*>(in + first + k * step);
    MOXIE_UNROLL
    for (int k = 0; k < packs_ahead; ++k) {
      const int64_t begin = first + k * step;
      if (begin >= n) continue;
      float values[pack];
      unpack<T>(values, packs[k]);
      MOXIE_UNROLL
      for (int e = 0; e < pack; ++e)
        values[e] = counts ? exp_of_difference(values[e] - shift) - (begin + e == target ? 1.0f : 0.0f) : 0.0f;
      *reinterpret_cast<Vector16*>(in + begin) = to_pack<T>(values);
    }
  }
  sync_threads();  // the next row's sums come where these were read
}

}  // namespace moxie::cuda
