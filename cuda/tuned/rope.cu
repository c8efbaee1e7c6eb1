// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/rope.cuh"

#include <limits>

#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

template <class T> __global__ void __launch_bounds__(block_threads) rope_packs(PackedRope<T> kernel, uint32_t count) {
  kernel(blockIdx.x * block_threads + threadIdx.x, count);
}

template <class T> void launch(int device, const Rope<T>& kernel, int64_t rows, int64_t cols) {
  const PackedRope<T> packed(kernel);
  const int64_t threads = packed.threads(rows);
  if (!PackedRope<T>::fits(kernel) || threads > std::numeric_limits<int32_t>::max())
    return launch_rows(device, kernel, rows, cols);
  if (threads == 0) return;
  const dim3 blocks(static_cast<unsigned>((threads + block_threads - 1) / block_threads));
  rope_packs<<<blocks, block_threads, 0, stream(device)>>>(packed, static_cast<uint32_t>(threads));
  check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
}

}  // namespace

template <> void for_rows(int device, const Rope<float>& kernel, int64_t rows, int64_t cols) {
  launch(device, kernel, rows, cols);
}
template <> void for_rows(int device, const Rope<bf16>& kernel, int64_t rows, int64_t cols) {
  launch(device, kernel, rows, cols);
}

}  // namespace moxie::cuda
