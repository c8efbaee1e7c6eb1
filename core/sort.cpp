// SPDX-License-Identifier: Apache-2.0
#include "core/sort.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "core/cuda.h"
#include "core/kernels/index/sort_key.h"
#include "core/launch.h"

namespace moxie {

CountingSort counting_sort(const Array& keys, int64_t values, int64_t group) {
  const int64_t n = keys.numel();
  check(n < (int64_t{1} << 31), "counting_sort: at most 2^31 - 1 keys, got {}", n);
  const Options options{Dtype::i32, keys.device()};
  const CountingSort result{Array::empty({values + 1}, options), Array::empty({n}, options),
                            Array::empty({n}, options)};
  const CountingSortProblem problem{
      keys.data<int32_t>(),        n, values, group, result.offsets.data<int32_t>(), result.order.data<int32_t>(),
      result.place.data<int32_t>()};
  if (!keys.device().is_cpu()) {
#ifdef MOXIE_CUDA
    cuda::counting_sort(keys.device().index, problem);
#endif
    return result;
  }
  std::fill_n(problem.offsets, values + 1, 0);
  for (int64_t i = 0; i < n; ++i) ++problem.offsets[problem.keys[i] + 1];
  for (int64_t v = 0; v < values; ++v) problem.offsets[v + 1] += problem.offsets[v];
  std::vector<int32_t> next(problem.offsets, problem.offsets + values);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t place = next[static_cast<size_t>(problem.keys[i])]++;
    problem.place[i] = place;
    problem.order[place] = static_cast<int32_t>(i / group);
  }
  return result;
}

namespace {

// A key with its index, compared as one number: so equal keys keep their order.
struct ShortEntry {
  uint64_t key_and_index;
  ShortEntry() = default;
  ShortEntry(uint32_t key, int64_t index) : key_and_index(uint64_t{key} << 32 | static_cast<uint32_t>(index)) {}
  int64_t index() const { return static_cast<int64_t>(key_and_index & 0xFFFFFFFFu); }
  bool operator<(const ShortEntry& other) const { return key_and_index < other.key_and_index; }
};
struct LongEntry {
  uint64_t key;
  int64_t place;
  LongEntry() = default;
  LongEntry(uint64_t key_of_value, int64_t index) : key(key_of_value), place(index) {}
  int64_t index() const { return place; }
  bool operator<(const LongEntry& other) const { return key != other.key ? key < other.key : place < other.place; }
};

template <class T> void sort_rows_of(const SortRows<T>& problem) {
  const auto [x, values, indices, rows, n, descending] = problem;
  using V = Accumulator<T>;
  using Entry = std::conditional_t<sizeof(V) == 8, LongEntry, ShortEntry>;
  const int64_t block = std::clamp<int64_t>((int64_t{1} << 20) / n, 1, rows);  // rows that share the scratch memory
  const std::unique_ptr<Entry[]> scratch(new Entry[static_cast<size_t>(block * n)]);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t count = std::min(block, rows - first);
    parallel_for(count, count * n >= parallel_threshold / 16, [&](int64_t row) {
      const T* in = x + (first + row) * n;
      T* out = values + (first + row) * n;
      int32_t* places = indices + (first + row) * n;
      Entry* entries = scratch.get() + row * n;
      for (int64_t i = 0; i < n; ++i) entries[i] = Entry(sort_key(V(in[i]), descending), i);
      std::sort(entries, entries + n);
      for (int64_t i = 0; i < n; ++i) {
        out[i] = in[entries[i].index()];
        places[i] = static_cast<int32_t>(entries[i].index());
      }
    });
  }
}

}  // namespace

void sort_rows(const Array& x, bool descending, const Array& values, const Array& indices) {
  const int64_t n = x.shape().cols();
  check(n < (int64_t{1} << 31), "sort_rows: at most 2^31 - 1 numbers per row, got {}", n);
  if (x.numel() == 0) return;
  dispatch_float("sort_rows", x.dtype(), [&]<class T>(T) {
    const SortRows<T> problem{x.data<T>(), values.data<T>(), indices.data<int32_t>(), x.shape().rows(), n, descending};
    if (x.device().is_cpu()) return sort_rows_of(problem);
#ifdef MOXIE_CUDA
    cuda::sort_rows(x.device().index, problem);
#endif
  });
}

}  // namespace moxie
