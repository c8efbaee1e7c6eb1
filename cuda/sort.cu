// SPDX-License-Identifier: Apache-2.0
// Sorting by CUB's radix sorts, which are stable.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_radix_sort.cuh>

#include "core/dtype.h"
#include "core/kernels/index/sort_key.h"
#include "cuda/runtime.h"
#include "cuda/scratch.h"

namespace moxie::cuda {
namespace {

constexpr int threads = 256;

// f(i) for every i in [0, n).
template <class F> __global__ void __launch_bounds__(threads) for_each_kernel(int64_t n, F f) {
  const int64_t step = int64_t{gridDim.x} * threads;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < n; i += step) f(i);
}
template <class F> void for_each(int device, const char* name, int64_t n, F f) {
  if (n == 0) return;
  const int64_t needed = (n + threads - 1) / threads, most = int64_t{properties(device).multiprocessors} * 32;
  const dim3 blocks(static_cast<unsigned>(needed < most ? needed : most));
  for_each_kernel<<<blocks, threads, 0, stream(device)>>>(n, f);
  check_launch(device, name, {blocks, threads});
}

struct WritePlaces {
  int32_t* places;
  int64_t n;
  __device__ void operator()(int64_t i) const { places[i] = static_cast<int32_t>(i % n); }
};

// offsets[v] = how many of the sorted keys are below v
struct FindOffsets {
  const int32_t* keys;
  int64_t n;
  int32_t* offsets;
  __device__ void operator()(int64_t v) const {
    int64_t low = 0, high = n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < v)
        low = middle + 1;
      else
        high = middle;
    }
    offsets[v] = static_cast<int32_t>(low);
  }
};

// Runs one of CUB's functions, first to ask how much memory it needs.
template <class F> void with_workspace(int device, F f) {
  size_t bytes = 0;
  MOXIE_CUDA_CHECK(f(nullptr, bytes));
  const Scratch<std::byte> workspace(device, static_cast<int64_t>(bytes > 0 ? bytes : 1));
  MOXIE_CUDA_CHECK(f(workspace.data(), bytes));
}

template <class T, class Key> struct WriteKeys {
  const T* x;
  Key* keys;
  bool descending;
  __device__ void operator()(int64_t i) const { keys[i] = sort_key(static_cast<Accumulator<T>>(x[i]), descending); }
};
template <class T> struct Pick {
  const T* x;
  const int32_t* places;
  T* y;
  int64_t n;
  __device__ void operator()(int64_t i) const { y[i] = x[i / n * n + places[i]]; }
};
struct WriteStarts {
  int64_t* starts;
  int64_t n;
  __device__ void operator()(int64_t row) const { starts[row] = row * n; }
};

// One radix sort of many rows gives each to one block; of few rows each is sorted by the whole device.
constexpr int64_t few_rows = 8;

template <class Key>
void sort_keys(int device, const Key* keys, Key* sorted, const int32_t* places, int32_t* indices, int64_t rows,
               int64_t n) {
  if (rows <= few_rows) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t first = row * n;
      with_workspace(device, [&](void* workspace, size_t& bytes) {
        return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys + first, sorted + first, places + first,
                                               indices + first, static_cast<int32_t>(n), 0, sizeof(Key) * 8,
                                               stream(device));
      });
    }
    return;
  }
  const Scratch<int64_t> starts(device, rows + 1);
  for_each(device, "WriteStarts", rows + 1, WriteStarts{starts.data(), n});
  with_workspace(device, [&](void* workspace, size_t& bytes) {
    return cub::DeviceSegmentedRadixSort::SortPairs(workspace, bytes, keys, sorted, places, indices, rows * n, rows,
                                                    starts.data(), starts.data() + 1, 0, sizeof(Key) * 8,
                                                    stream(device));
  });
}

}  // namespace

void counting_sort(int device, const int32_t* keys, int64_t n, int64_t values, int32_t* offsets, int32_t* order) {
  const Scratch<int32_t> places(device, n), sorted(device, n);
  for_each(device, "WritePlaces", n, WritePlaces{places.data(), n});
  int bits = 1;
  while (bits < 31 && (int64_t{1} << bits) < values) ++bits;
  if (n > 0) {
    with_workspace(device, [&](void* workspace, size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys, sorted.data(), places.data(), order,
                                             static_cast<int32_t>(n), 0, bits, stream(device));
    });
  }
  for_each(device, "FindOffsets", values + 1, FindOffsets{sorted.data(), n, offsets});
}

template <class T> void sort_rows(int device, const SortRows<T>& problem) {
  using Key = decltype(sort_key(Accumulator<T>(0), false));
  const auto [x, values, indices, all_rows, n, descending] = problem;
  const int64_t block = std::max<int64_t>(1, (int64_t{1} << 28) / n);  // rows that share the scratch memory
  for (int64_t first = 0; first < all_rows; first += block) {
    const int64_t rows = std::min(block, all_rows - first), total = rows * n;
    const Scratch<Key> keys(device, total), sorted(device, total);
    const Scratch<int32_t> places(device, total);
    for_each(device, "WriteKeys", total, WriteKeys<T, Key>{x + first * n, keys.data(), descending});
    for_each(device, "WritePlaces", total, WritePlaces{places.data(), n});
    sort_keys(device, keys.data(), sorted.data(), places.data(), indices + first * n, rows, n);
    for_each(device, "Pick", total, Pick<T>{x + first * n, indices + first * n, values + first * n, n});
  }
}
template void sort_rows(int device, const SortRows<double>& problem);
template void sort_rows(int device, const SortRows<float>& problem);
template void sort_rows(int device, const SortRows<bf16>& problem);

}  // namespace moxie::cuda
