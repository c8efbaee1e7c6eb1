// SPDX-License-Identifier: Apache-2.0
// Softmax and RMSNorm of rows that fit into registers. The formulas stand above the kernels in core/kernels/normalize.
#include "core/kernels/normalize/rms_norm.h"
#include "core/kernels/normalize/softmax.h"
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
    T* const dx = kernel.dx + row * n;
    p.write(team, n, dx, kernel.accumulate ? dx : nullptr);
  }
};

// y and rstd of a row that is held.
template <class Kernel, class Row, class Team>
__device__ __forceinline__ void normalize(const Kernel& kernel, Row& x, Team team, int64_t row) {
  using V = Row::V;
  const int n = static_cast<int>(kernel.cols);
  const V squares = x.sum(team, [&](int k) { return x.value[k] * x.value[k]; });
  const V scale = V(1) / math::sqrt(squares / V(n) + kernel.epsilon);
  x.apply([=](V value) { return value * scale; });
  x.multiply(team, n, kernel.weight);
  x.write(team, n, kernel.y + row * n);
  V* r = kernel.rstd + row;
  team.once([=] { *r = scale; });
}

struct HeldRmsNorm {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const RmsNorm<T>& kernel, Team team, int64_t row) {
    HeldRow<Team, T, packs> x;
    x.read(team, static_cast<int>(kernel.cols), kernel.x + row * kernel.cols, Accumulator<T>(0));
    normalize(kernel, x, team, row);
  }
};

struct HeldAddRmsNorm {
  template <int packs, class T, class Team>
  static __device__ __forceinline__ void run(const AddRmsNorm<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const int n = static_cast<int>(kernel.cols);
    HeldRow<Team, T, packs> x, branch;
    x.read(team, n, kernel.x + row * n, V(0));
    branch.read(team, n, kernel.branch + row * n, V(0));
#pragma unroll
    for (int k = 0; k < x.count; ++k) x.value[k] = static_cast<V>(static_cast<T>(x.value[k] + branch.value[k]));
    x.write(team, n, kernel.sum + row * n);
    normalize(kernel, x, team, row);
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
    g.write(team, n, kernel.dx + row * n, kernel.added ? kernel.added + row * n : nullptr);
  }
};

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
MOXIE_HELD_FLOATS(HeldSoftmaxBackward, 32, SoftmaxBackward, kernel.y, kernel.dy, kernel.dx)
MOXIE_HELD_FLOATS(HeldRmsNorm, 32, RmsNorm, kernel.x, kernel.y, kernel.weight)
MOXIE_HELD_FLOATS(HeldAddRmsNorm, 32, AddRmsNorm, kernel.x, kernel.branch, kernel.sum, kernel.y, kernel.weight)
MOXIE_HELD_FLOATS(HeldRmsNormBackward, 32, RmsNormBackward, kernel.x, kernel.dy, kernel.added, kernel.dx, kernel.weight)

}  // namespace moxie::cuda
