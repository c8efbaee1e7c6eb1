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
  const LogSum s = log_sum_of_row(in, kernel.cols);
  if (lane_index() != 0) return;
  const float log_total = math::log(s.total);
  kernel.lse[row] = s.top + log_total;
  kernel.loss[row] = counts ? (s.top - wanted) + log_total : 0.0f;  // in this order: large x don't cost it its digits
  kernel.counted[row] = counts ? 1.0f : 0.0f;
}

}  // namespace moxie::cuda
