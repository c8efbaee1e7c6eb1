// SPDX-License-Identifier: Apache-2.0
// Softmax, RMSNorm and cross entropy of rows that fit into registers. The formulas stand above the kernels in
// core/kernels/normalize and core/kernels/loss.
#include "core/kernels/loss/cross_entropy.h"
#include "core/kernels/normalize/rms_norm.h"
#include "core/kernels/normalize/softmax.h"
#include "cuda/tuned/cross_entropy.cuh"
#include "cuda/tuned/held_rows.cuh"

namespace moxie::cuda {
namespace {

template <class V> constexpr V infinity = std::numeric_limits<V>::infinity();

struct HeldSoftmax {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const Softmax<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    HeldRow<Team, T, packs> x;
    x.read(team, n, kernel.x + row * n, -infinity<V>);
    const V top = x.max(team);
    // beyond the row: exp(-inf) = 0, or NaN where the whole row is -inf, as the row's own elements are then
    x.apply([=](V value) { return math::exp_nonpositive(value - top); });
    const V scale = V(1) / x.sum(team, [&](int k) { return x.value[k]; });
    x.apply([=](V e) { return e * scale; });
    x.write(team, n, kernel.y + row * n);
  }
};

struct HeldLogSoftmax {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const LogSoftmax<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    HeldRow<Team, T, packs> x;
    x.read(team, n, kernel.x + row * n, -infinity<V>);
    const V top = x.max(team);
    x.apply([=](V value) { return value - top; });
    const V log_total = math::log(x.sum(team, [&](int k) { return math::exp_nonpositive(x.value[k]); }));
    x.apply([=](V value) { return value - log_total; });
    x.write(team, n, kernel.y + row * n);
  }
};

struct HeldSoftmaxBackward {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const SoftmaxBackward<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    HeldRow<Team, T, packs> p, g;
    p.read(team, n, kernel.y + row * n, V(0));
    g.read(team, n, kernel.dy + row * n, V(0));
    const V dot = p.sum(team, [&](int k) { return p.value[k] * g.value[k]; });
#pragma unroll
    for (int k = 0; k < p.count; ++k) p.value[k] *= g.value[k] - dot;
    p.write(team, n, kernel.dx + row * n, kernel.accumulate);
  }
};

struct HeldRmsNorm {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const RmsNorm<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    HeldRow<Team, T, packs> x;
    x.read(team, n, kernel.x + row * n, V(0));
    const V squares = x.sum(team, [&](int k) { return x.value[k] * x.value[k]; });
    const V scale = V(1) / math::sqrt(squares / V(n) + kernel.epsilon);
    x.apply([=](V value) { return value * scale; });
    x.multiply(team, n, kernel.weight);
    x.write(team, n, kernel.y + row * n);
    V* r = kernel.rstd + row;
    team.once([=] { *r = scale; });
  }
};

struct HeldRmsNormBackward {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const RmsNormBackward<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    HeldRow<Team, T, packs> x, g;
    x.read(team, n, kernel.x + row * n, V(0));
    g.read(team, n, kernel.dy + row * n, V(0));
    g.multiply(team, n, kernel.weight);
    const V r = kernel.rstd[row];
    const V dot = x.sum(team, [&](int k) { return x.value[k] * g.value[k]; });
    const V pull = dot * r * r / V(n);
#pragma unroll
    for (int k = 0; k < x.count; ++k) g.value[k] = r * (g.value[k] - x.value[k] * pull);
    g.write(team, n, kernel.dx + row * n, kernel.accumulate);
  }
};

struct HeldCrossEntropy {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const CrossEntropy<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    const T* in = kernel.x + row * n;
    HeldRow<Team, T, packs> x;
    x.read(team, n, in, -infinity<V>);
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

}  // namespace

// In the place of the generic kernel; `packed` says what must lie at multiples of 16 bytes.
#define MOXIE_HELD_ROWS(Held, most, Kernel, T, ...)                                                 \
  template <> void for_rows(int device, const Kernel<T>& kernel, int64_t rows, int64_t cols) {      \
    launch_held<T, Held, most>(device, kernel, rows, cols, is_packed<T>(kernel.cols, __VA_ARGS__)); \
  }
#define MOXIE_HELD_FLOATS(Held, most, Kernel, ...)        \
  MOXIE_HELD_ROWS(Held, most, Kernel, float, __VA_ARGS__) \
  MOXIE_HELD_ROWS(Held, most, Kernel, bf16, __VA_ARGS__)
MOXIE_HELD_FLOATS(HeldSoftmax, 32, Softmax, kernel.x, kernel.y)
MOXIE_HELD_FLOATS(HeldLogSoftmax, 32, LogSoftmax, kernel.x, kernel.y)
MOXIE_HELD_FLOATS(HeldSoftmaxBackward, 16, SoftmaxBackward, kernel.y, kernel.dy, kernel.dx)
MOXIE_HELD_FLOATS(HeldRmsNorm, 32, RmsNorm, kernel.x, kernel.y, kernel.weight)
MOXIE_HELD_FLOATS(HeldRmsNormBackward, 16, RmsNormBackward, kernel.x, kernel.dy, kernel.dx, kernel.weight)
template <> void for_rows(int device, const CrossEntropy<float>& kernel, int64_t rows, int64_t cols) {
  launch_cross_entropy(device, kernel, rows, cols);
}
template <> void for_rows(int device, const CrossEntropy<bf16>& kernel, int64_t rows, int64_t cols) {
  launch_cross_entropy(device, kernel, rows, cols);
}

}  // namespace moxie::cuda
