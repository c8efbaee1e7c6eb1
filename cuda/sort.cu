// SPDX-License-Identifier: Apache-2.0
// Sorting by CUB's radix sorts, which are stable, and of few different integers by kernels of two launches.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_radix_sort.cuh>

#include "core/dtype.h"
#include "core/kernels/index/sort_key.h"
#include "cuda/counting_sort.cuh"
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

// offsets[v] = how many of the sorted keys are below v; and from positions in `order` what core/sort.h promises.
struct FinishSort {
  const int32_t* keys;
  int64_t n, values, group;
  int32_t* offsets;
  int32_t* order;
  int32_t* place;
  __device__ void operator()(int64_t i) const {
    if (i < n) {
      const int32_t position = order[i];
      place[position] = static_cast<int32_t>(i);
      order[i] = static_cast<int32_t>(position / group);
    }
    if (i > values) return;
    int64_t low = 0, high = n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < i)
        low = middle + 1;
      else
        high = middle;
    }
    offsets[i] = static_cast<int32_t>(low);
  }
};

__global__ void __launch_bounds__(SmallSort::threads) count_keys(SmallSort sort) {
  __shared__ SmallSort::Memory memory;
  sort.count(block_index(), memory);
}
__global__ void __launch_bounds__(SmallSort::threads) put_keys(SmallSort sort) {
  __shared__ SmallSort::Memory memory;
  sort.put(block_index(), memory);
}
void sort_small(int device, SmallSort sort) {
  const Scratch<int32_t> counts(device, int64_t{sort.chunks} * sort.values);
  sort.counts = counts.data();
  const dim3 blocks(static_cast<unsigned>(sort.chunks));
  count_keys<<<blocks, SmallSort::threads, 0, stream(device)>>>(sort);
  check_launch(device, "count_keys", {blocks, SmallSort::threads});
  put_keys<<<blocks, SmallSort::threads, 0, stream(device)>>>(sort);
  check_launch(device, "put_keys", {blocks, SmallSort::threads});
}

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

void counting_sort(int device, const CountingSortProblem& problem) {
  const auto [keys, n, values, group, offsets, order, place] = problem;
  const int64_t chunks = (n + SmallSort::chunk - 1) / SmallSort::chunk;
  if (n > 0 && values <= SmallSort::most_values && chunks <= SmallSort::most_chunks)
    return sort_small(device, {keys, nullptr, offsets, order, place, static_cast<int>(n), static_cast<int>(values),
                               static_cast<int>(chunks), static_cast<int>(group)});
  const Scratch<int32_t> positions(device, n), sorted(device, n);
  for_each(device, "WritePlaces", n, WritePlaces{positions.data(), n});
  int bits = 1;
  while (bits < 31 && (int64_t{1} << bits) < values) ++bits;
  if (n > 0) {
    with_workspace(device, [&](void* workspace, size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys, sorted.data(), positions.data(), order,
                                             static_cast<int32_t>(n), 0, bits, stream(device));
    });
  }
  for_each(device, "FinishSort", std::max(n, values + 1),
           FinishSort{sorted.data(), n, values, group, offsets, order, place});
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
