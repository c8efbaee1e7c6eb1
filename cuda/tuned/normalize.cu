// SPDX-License-Identifier: Apache-2.0
// Softmax and RMSNorm of rows that fit into registers. The formulas stand above the kernels in core/kernels/normalize.
#include "core/kernels/normalize/rms_norm.h"
#include "core/kernels/normalize/softmax.h"
#include "cuda/tuned/held_rows.cuh"

namespace moxie::cuda {
namespace {

template <class V> constexpr V infinity = std::numeric_limits<V>::infinity();

struct HeldSoftmax {
  template <int count, class T, class Team>
  static __device__ __forceinline__ void run(const Softmax<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const T* in = kernel.x + row * kernel.cols;
    T* out = kernel.y + row * kernel.cols;
    HeldRow<Team, V, count> x(
        team, kernel.cols, [=](int64_t i) { return V(in[i]); }, -infinity<V>);
    const V top = x.max(team);
    x.apply([=](V value) { return math::exp_nonpositive(value - top); });
    // beyond the row: exp(-inf) = 0, or NaN where the whole row is -inf, as the row's own elements are then
    const V scale = V(1) / x.sum(team, [](V e) { return e; });
    x.each(team, kernel.cols, [=](int64_t i, V e) { out[i] = static_cast<T>(e * scale); });
  }
};

struct HeldLogSoftmax {
  template <int count, class T, class Team>
  static __device__ __forceinline__ void run(const LogSoftmax<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const T* in = kernel.x + row * kernel.cols;
    T* out = kernel.y + row * kernel.cols;
    HeldRow<Team, V, count> x(
        team, kernel.cols, [=](int64_t i) { return V(in[i]); }, -infinity<V>);
    const V top = x.max(team);
    x.apply([=](V value) { return value - top; });
    const V log_total = math::log(x.sum(team, [](V value) { return math::exp_nonpositive(value); }));
    x.each(team, kernel.cols, [=](int64_t i, V value) { out[i] = static_cast<T>(value - log_total); });
  }
};

// Two numbers of each element, of which a product is summed.
template <class V> struct Two { V first, second; };

struct HeldSoftmaxBackward {
  template <int count, class T, class Team>
  static __device__ __forceinline__ void run(const SoftmaxBackward<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const T *p = kernel.y + row * kernel.cols, *g = kernel.dy + row * kernel.cols;
    T* out = kernel.dx + row * kernel.cols;
    const HeldRow<Team, Two<V>, count> held(
        team, kernel.cols,
        [=](int64_t i) {
          return Two<V>{V(p[i]), V(g[i])};
        },
        Two<V>{V(0), V(0)});
    const V dot = held.sum(team, [](Two<V> at) { return at.first * at.second; });
    const bool add = kernel.accumulate;
    held.each(team, kernel.cols, [=](int64_t i, Two<V> at) { store(out[i], at.first * (at.second - dot), add); });
  }
};

struct HeldRmsNorm {
  template <int count, class T, class Team>
  static __device__ __forceinline__ void run(const RmsNorm<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const T* in = kernel.x + row * kernel.cols;
    T* out = kernel.y + row * kernel.cols;
    const V* w = kernel.weight;
    V* r = kernel.rstd + row;
    const HeldRow<Team, V, count> x(
        team, kernel.cols, [=](int64_t i) { return V(in[i]); }, V(0));
    const V squares = x.sum(team, [](V value) { return value * value; });
    const V scale = V(1) / math::sqrt(squares / V(kernel.cols) + kernel.epsilon);
    x.each(team, kernel.cols, [=](int64_t i, V value) { out[i] = static_cast<T>(value * scale * w[i]); });
    team.once([=] { *r = scale; });
  }
};

// Holds x and g = dy w.
struct HeldRmsNormBackward {
  template <int count, class T, class Team>
  static __device__ __forceinline__ void run(const RmsNormBackward<T>& kernel, Team team, int64_t row) {
    using V = Accumulator<T>;
    const T *in = kernel.x + row * kernel.cols, *upstream = kernel.dy + row * kernel.cols;
    T* out = kernel.dx + row * kernel.cols;
    const V* w = kernel.weight;
    const V r = kernel.rstd[row];
    const HeldRow<Team, Two<V>, count> held(
        team, kernel.cols,
        [=](int64_t i) {
          return Two<V>{V(in[i]), V(upstream[i]) * w[i]};
        },
        Two<V>{V(0), V(0)});
    const V dot = held.sum(team, [](Two<V> at) { return at.first * at.second; });
    const V pull = dot * r * r / V(kernel.cols);
    const bool add = kernel.accumulate;
    held.each(team, kernel.cols, [=](int64_t i, Two<V> at) { store(out[i], r * (at.second - at.first * pull), add); });
  }
};

}  // namespace

MOXIE_HELD_ROWS(HeldSoftmax, 32, Softmax<float>)
MOXIE_HELD_ROWS(HeldSoftmax, 32, Softmax<bf16>)
MOXIE_HELD_ROWS(HeldLogSoftmax, 32, LogSoftmax<float>)
MOXIE_HELD_ROWS(HeldLogSoftmax, 32, LogSoftmax<bf16>)
MOXIE_HELD_ROWS(HeldSoftmaxBackward, 16, SoftmaxBackward<float>)
MOXIE_HELD_ROWS(HeldSoftmaxBackward, 16, SoftmaxBackward<bf16>)
MOXIE_HELD_ROWS(HeldRmsNorm, 32, RmsNorm<float>)
MOXIE_HELD_ROWS(HeldRmsNorm, 32, RmsNorm<bf16>)
MOXIE_HELD_ROWS(HeldRmsNormBackward, 16, RmsNormBackward<float>)
MOXIE_HELD_ROWS(HeldRmsNormBackward, 16, RmsNormBackward<bf16>)

}  // namespace moxie::cuda
