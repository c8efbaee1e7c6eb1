// SPDX-License-Identifier: Apache-2.0
// Teams of CUDA threads, and the launch of team kernels. core/team.h says what the verbs promise.
// Sums are made in an order that the team's size alone fixes, and the team's size depends on `cols` alone: two runs are
// bit-equal.
#pragma once
#include <cuda_runtime.h>

#include "core/launch.h"
#include "cuda/intrinsics.cuh"
#include "cuda/runtime.h"

namespace moxie::cuda {

// The index with the largest value, the lowest of several; a NaN loses against every number. -1: none.
template <class Value> struct Best {
  int64_t index;
  Value value;

  static __device__ Best none() { return {-1, Value(0)}; }
  __device__ void offer(int64_t other_index, Value other) {
    const bool nan = value != value, other_nan = other != other;
    const bool equal = other == value || (nan && other_nan);
    const bool better = other > value || (nan && !other_nan) || (equal && other_index < index);
    if (other_index < 0 || (index >= 0 && !better)) return;
    index = other_index;
    value = other;
  }
};

// Verbs that both teams share, over a stride: member `rank` of `size` deals with rank, rank + size, ...
// A thread asks for the numbers of `batch` elements before it uses the first, so that it waits for memory once and not
// for each; nothing but this reaches the memory's bandwidth.
template <int size> struct Strided {
  static constexpr int batch = 8, half_batch = 4;

  template <class F> static __device__ __forceinline__ void each(int64_t rank, int64_t n, F f) {
#pragma unroll 1
    for (int64_t i = rank; i < n; i += size) f(i);
  }
  template <class F, class G> static __device__ __forceinline__ void each(int64_t rank, int64_t n, F f, G g) {
    in_batches(rank, n, [&](auto count, int64_t i) {
      decltype(f(i)) values[count];
#pragma unroll
      for (int k = 0; k < count; ++k) values[k] = f(i + k * size);
#pragma unroll
      for (int k = 0; k < count; ++k) g(i + k * size, values[k]);
    });
  }
  template <class F> static __device__ __forceinline__ auto sum(int64_t rank, int64_t n, F f) {
    using Value = decltype(f(int64_t{0}));
    Value totals[half_batch] = {};
    in_batches(rank, n, [&](auto count, int64_t i) {
#pragma unroll
      for (int k = 0; k < count; ++k) totals[k % half_batch] += f(i + k * size);
    });
    return (totals[0] + totals[1]) + (totals[2] + totals[3]);
  }
  template <class F> static __device__ __forceinline__ auto max(int64_t rank, int64_t n, F f) {
    using Value = decltype(f(int64_t{0}));
    Value top = -std::numeric_limits<Value>::infinity();
    in_batches(rank, n, [&](auto count, int64_t i) {
      Value values[count];
#pragma unroll
      for (int k = 0; k < count; ++k) values[k] = f(i + k * size);
#pragma unroll
      for (int k = 0; k < count; ++k) top = values[k] > top ? values[k] : top;
    });
    return top;
  }
  template <class F> static __device__ __forceinline__ auto argmax(int64_t rank, int64_t n, F f) {
    auto best = Best<decltype(f(int64_t{0}))>::none();
#pragma unroll 4
    for (int64_t i = rank; i < n; i += size) best.offer(i, f(i));
    return best;
  }

 private:
  template <int count> using Count = std::integral_constant<int, count>;

  // do_batch(count, i) for elements i, i + size, ... of every batch, and for smaller batches at the end.
  template <class DoBatch>
  static __device__ __forceinline__ void in_batches(int64_t rank, int64_t n, DoBatch do_batch) {
    int64_t i = rank;
#pragma unroll 1
    for (; i + (batch - 1) * size < n; i += batch * size) do_batch(Count<batch>(), i);
    if (i + (half_batch - 1) * size < n) {
      do_batch(Count<half_batch>(), i);
      i += half_batch * size;
    }
#pragma unroll 1
    for (; i < n; i += size) do_batch(Count<1>(), i);
  }
};

// Every lane gets the same bits, since both orders of an addition give the same.
template <class Value> __device__ __forceinline__ Value warp_sum(Value value) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  return value;
}
template <class Value> __device__ __forceinline__ Value warp_max(Value value) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    const Value other = __shfl_xor_sync(~0u, value, distance);
    value = other > value ? other : value;
  }
  return value;
}
template <class Value> __device__ __forceinline__ Best<Value> warp_best(Best<Value> best) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    const auto index = __shfl_xor_sync(~0u, static_cast<long long>(best.index), distance);
    best.offer(index, __shfl_xor_sync(~0u, best.value, distance));
  }
  return best;
}

// 32 threads.
struct WarpTeam {
  using Loop = Strided<warp_size>;
  static constexpr int size = warp_size;

  __device__ __forceinline__ int64_t rank() const { return threadIdx.x % warp_size; }

  template <class F> __device__ __forceinline__ void each(int64_t n, F f) const { Loop::each(rank(), n, f); }
  template <class F, class G> __device__ __forceinline__ void each(int64_t n, F f, G g) const {
    Loop::each(rank(), n, f, g);
  }
  template <class F> __device__ __forceinline__ auto sum(int64_t n, F f) const {
    return warp_sum(Loop::sum(rank(), n, f));
  }
  template <class F> __device__ __forceinline__ auto max(int64_t n, F f) const {
    return warp_max(Loop::max(rank(), n, f));
  }
  template <class F> __device__ __forceinline__ int64_t argmax(int64_t n, F f) const {
    return warp_best(Loop::argmax(rank(), n, f)).index;
  }
  template <class F> __device__ __forceinline__ void once(F f) const {
    if (rank() == 0) f();
  }
  __device__ __forceinline__ void sync() const { __syncwarp(); }
};

// The N threads of a block, a multiple of 32.
template <int N> struct BlockTeam {
  static_assert(N % warp_size == 0 && N <= warp_size * warp_size);
  using Loop = Strided<N>;
  static constexpr int size = N, warps = N / warp_size;

  __device__ __forceinline__ int64_t rank() const { return threadIdx.x; }

  template <class F> __device__ __forceinline__ void each(int64_t n, F f) const { Loop::each(rank(), n, f); }
  template <class F, class G> __device__ __forceinline__ void each(int64_t n, F f, G g) const {
    Loop::each(rank(), n, f, g);
  }
  template <class F> __device__ __forceinline__ auto sum(int64_t n, F f) const {
    const auto part = warp_sum(Loop::sum(rank(), n, f));
    return warp_sum(exchange(part, decltype(part)(0)));
  }
  template <class F> __device__ __forceinline__ auto max(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    const Value part = warp_max(Loop::max(rank(), n, f));
    return warp_max(exchange(part, -std::numeric_limits<Value>::infinity()));
  }
  template <class F> __device__ __forceinline__ int64_t argmax(int64_t n, F f) const {
    const auto part = warp_best(Loop::argmax(rank(), n, f));
    return warp_best(exchange(part, part.none())).index;
  }
  template <class F> __device__ __forceinline__ void once(F f) const {
    if (rank() == 0) f();
  }
  __device__ __forceinline__ void sync() const { __syncthreads(); }

 private:
  // Gives lane w of every warp the value of warp w, and `none` to the lanes beyond.
  template <class Value> static __device__ __forceinline__ Value exchange(Value value, Value none) {
    __shared__ Value values[warps];
    const unsigned lane = threadIdx.x % warp_size;
    __syncthreads();  // until all have read what the exchange before left
    if (lane == 0) values[threadIdx.x / warp_size] = value;
    __syncthreads();
    return lane < warps ? values[lane] : none;
  }
};

inline constexpr int warps_of_block = 8;
inline constexpr int block_threads = warps_of_block * warp_size;
// Rows up to this size are a warp's, longer ones a block's.
inline constexpr int64_t longest_warp_row = 1024;
// More blocks than this loop over rows.
inline constexpr int64_t most_blocks = int64_t{1} << 22;
inline constexpr int64_t most_blocks_y = 65535;  // CUDA has no more

inline dim3 blocks_for(int64_t blocks) {
  return dim3(static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks));
}

template <class Kernel> __global__ void __launch_bounds__(block_threads) warp_per_row(Kernel kernel, int64_t rows) {
  const int64_t step = int64_t{gridDim.x} * warps_of_block;
  for (int64_t row = int64_t{blockIdx.x} * warps_of_block + threadIdx.x / warp_size; row < rows; row += step)
    kernel(WarpTeam{}, row);
}

template <class Kernel> __global__ void __launch_bounds__(block_threads) block_per_row(Kernel kernel, int64_t rows) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) kernel(BlockTeam<block_threads>{}, row);
}

// Elementwise kernels have rows of elementwise_row elements, too long for a warp.
template <class Kernel>
concept Elementwise = requires(const Kernel& kernel) {
  kernel.numel;
};

// One team per row; what for_rows does where cuda/tuned/ has no specialisation of it.
template <class Kernel>
void launch_rows(int device, const Kernel& kernel, int64_t rows, [[maybe_unused]] int64_t cols) {
  const cudaStream_t on = stream(device);
  if constexpr (!Elementwise<Kernel>) {
    if (cols <= longest_warp_row) {
      const dim3 blocks = blocks_for((rows + warps_of_block - 1) / warps_of_block);
      warp_per_row<<<blocks, block_threads, 0, on>>>(kernel, rows);
      return check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
    }
  }
  const dim3 blocks = blocks_for(rows);
  block_per_row<<<blocks, block_threads, 0, on>>>(kernel, rows);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, block_threads});
}

template <class Kernel> void for_rows(int device, const Kernel& kernel, int64_t rows, int64_t cols) {
  launch_rows(device, kernel, rows, cols);
}

}  // namespace moxie::cuda

// Compiles a team kernel for CUDA: MOXIE_CUDA_KERNEL(Softmax<float>);
#define MOXIE_CUDA_KERNEL(...) \
  template void moxie::cuda::for_rows(int device, const __VA_ARGS__& kernel, int64_t rows, int64_t cols)

// For f64 and f32. The type is the template's last argument: MOXIE_CUDA_WIDE_FLOATS(AddNoise, GumbelDraw);
#define MOXIE_CUDA_WIDE_FLOATS(name, ...)                     \
  MOXIE_CUDA_KERNEL(name<__VA_ARGS__ __VA_OPT__(, ) double>); \
  MOXIE_CUDA_KERNEL(name<__VA_ARGS__ __VA_OPT__(, ) float>)

// For every float type.
#define MOXIE_CUDA_FLOATS(name, ...)                       \
  MOXIE_CUDA_WIDE_FLOATS(name __VA_OPT__(, ) __VA_ARGS__); \
  MOXIE_CUDA_KERNEL(name<__VA_ARGS__ __VA_OPT__(, ) bf16>)

// For every type.
#define MOXIE_CUDA_DTYPES(name, ...)                           \
  MOXIE_CUDA_FLOATS(name __VA_OPT__(, ) __VA_ARGS__);          \
  MOXIE_CUDA_KERNEL(name<__VA_ARGS__ __VA_OPT__(, ) int32_t>); \
  MOXIE_CUDA_KERNEL(name<__VA_ARGS__ __VA_OPT__(, ) uint8_t>)
