// SPDX-License-Identifier: Apache-2.0
// Sums of rows by destination, where few destinations share many rows, as the bytes of a text do the tokens of a batch:
// a block's warps share one destination. The generic kernel, one warp or block going through them one by one, takes
// milliseconds for the most frequent byte.
#include "core/kernels/index/rows.h"
#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

constexpr int warps = 32, threads = warps * warp_size;
// More destinations than this keep the GPU busy, a warp or a block each.
constexpr int64_t few_destinations = 4096;

// Warp w adds up its 32nd of the destination's rows, 32 columns at a time; the parts are added in the order of the
// warps.
template <class From, class T> __global__ void __launch_bounds__(threads) segment_sum(SegmentSum<From, T> kernel) {
  using V = Accumulator<T>;
  __shared__ V parts[warps][warp_size];
  const int64_t row = blockIdx.x, n = kernel.cols;
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  const int32_t begin = kernel.offsets[row], end = kernel.offsets[row + 1];
  const int32_t share = (end - begin + warps - 1) / warps;
  const int32_t first = begin + static_cast<int32_t>(warp) * share, last = min(first + share, end);
  for (int64_t left = 0; left < n; left += warp_size) {
    const int64_t col = left + lane;
    V part = V(0);
    if (col < n) {
#pragma unroll 8
      for (int32_t place = first; place < last; ++place)
        part += static_cast<V>(Accumulator<From>(kernel.x[kernel.order[place] * n + col]));
    }
    parts[warp][lane] = part;
    __syncthreads();
    if (warp == 0 && col < n) {
      T& out = kernel.y[row * n + col];
      V total = kernel.accumulate ? V(out) : V(0);
#pragma unroll
      for (int w = 0; w < warps; ++w) total += parts[w][lane];
      out = static_cast<T>(total);
    }
    __syncthreads();
  }
}

template <class From, class T> void launch(int device, const SegmentSum<From, T>& kernel, int64_t rows, int64_t cols) {
  if (rows > few_destinations) return launch_rows(device, kernel, rows, cols);
  const dim3 blocks(static_cast<unsigned>(rows));
  segment_sum<<<blocks, threads, 0, stream(device)>>>(kernel);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, threads});
}

}  // namespace

#define MOXIE_SEGMENT_SUM(From, T)                                                                       \
  template <> void for_rows(int device, const SegmentSum<From, T>& kernel, int64_t rows, int64_t cols) { \
    launch(device, kernel, rows, cols);                                                                  \
  }
MOXIE_SEGMENT_SUM(double, double)
MOXIE_SEGMENT_SUM(double, float)
MOXIE_SEGMENT_SUM(double, bf16)
MOXIE_SEGMENT_SUM(float, double)
MOXIE_SEGMENT_SUM(float, float)
MOXIE_SEGMENT_SUM(float, bf16)
MOXIE_SEGMENT_SUM(bf16, double)
MOXIE_SEGMENT_SUM(bf16, float)
MOXIE_SEGMENT_SUM(bf16, bf16)

}  // namespace moxie::cuda
