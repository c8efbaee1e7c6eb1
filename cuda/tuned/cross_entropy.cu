// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/cross_entropy.cuh"

#include "cuda/tuned/held_rows.cuh"

namespace moxie::cuda {
namespace {

struct HeldCrossEntropy {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const CrossEntropy<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    const T* in = kernel.x + row * n;
    HeldRow<Team, T, packs> x;
    x.read(team, n, in, -std::numeric_limits<V>::infinity());
    const V top = x.max(team);
    const V total = x.sum(team, [&](int k) { return math::exp_nonpositive(x.value[k] - top); });
    const V value = top + math::log(total);
    const int32_t target = kernel.targets[row];
    const bool counts = target != kernel.ignored;
    V *lse = kernel.lse + row, *loss = kernel.loss + row, *counted = kernel.counted + row;
    team.once([=] {
      *lse = value;
      *loss = counts ? value - V(in[target]) : V(0);
      *counted = counts ? V(1) : V(0);
    });
  }
};

// Where there are rows enough for a warp each: one pass, and nobody waits for a block.
template <class T>
__global__ void __launch_bounds__(block_threads) cross_entropy_rows(CrossEntropy<T> kernel, int64_t rows) {
  const int64_t step = int64_t{gridDim.x} * warps_of_block;
  for (int64_t row = int64_t{blockIdx.x} * warps_of_block + warp_index(); row < rows; row += step)
    cross_entropy_row(kernel, row);
}

template <class T> void launch_cross_entropy(int device, const CrossEntropy<T>& kernel, int64_t rows, int64_t cols) {
  constexpr int64_t least_rows = 1024;
  const bool packed = is_packed<T>(kernel.cols, kernel.x);
  if (!packed || rows < least_rows) return launch_held<T, HeldCrossEntropy, 32>(device, kernel, rows, cols, packed);
  const dim3 blocks = blocks_for((rows + warps_of_block - 1) / warps_of_block);
  cross_entropy_rows<<<blocks, block_threads, 0, stream(device)>>>(kernel, rows);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
}

template <class T>
__global__ void __launch_bounds__(loss_threads, 2)
    cross_entropy_in_place_rows(CrossEntropyInPlace<T> kernel, int64_t rows) {
  __shared__ LossMemory memory;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) cross_entropy_in_place(kernel, row, memory);
}

template <class T>
void launch_cross_entropy_in_place(int device, const CrossEntropyInPlace<T>& kernel, int64_t rows, int64_t cols) {
  if (rows == 0) return;
  if (!is_packed<T>(kernel.cols, kernel.x)) return launch_rows(device, kernel, rows, cols);
  const dim3 blocks = blocks_for(rows);
  cross_entropy_in_place_rows<<<blocks, loss_threads, 0, stream(device)>>>(kernel, rows);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, loss_threads});
}

}  // namespace

template <> void for_rows(int device, const CrossEntropy<float>& kernel, int64_t rows, int64_t cols) {
  launch_cross_entropy(device, kernel, rows, cols);
}
template <> void for_rows(int device, const CrossEntropy<bf16>& kernel, int64_t rows, int64_t cols) {
  launch_cross_entropy(device, kernel, rows, cols);
}
template <> void for_rows(int device, const CrossEntropyInPlace<float>& kernel, int64_t rows, int64_t cols) {
  launch_cross_entropy_in_place(device, kernel, rows, cols);
}
template <> void for_rows(int device, const CrossEntropyInPlace<bf16>& kernel, int64_t rows, int64_t cols) {
  launch_cross_entropy_in_place(device, kernel, rows, cols);
}

}  // namespace moxie::cuda
