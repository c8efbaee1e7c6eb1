// SPDX-License-Identifier: Apache-2.0
#include "core/sort.h"

#include <vector>

#include "core/launch.h"

namespace moxie {

CountingSort counting_sort(const Array& keys, int64_t values) {
  if (!keys.device().is_cpu()) throw_built_without_cuda();
  const int64_t n = keys.numel();
  check(n < (int64_t{1} << 31), "counting_sort: at most 2^31 - 1 keys, got {}", n);
  const CountingSort result{Array::zeros({values + 1}, {Dtype::i32}), Array::empty({n}, {Dtype::i32})};
  const int32_t* key = keys.data<int32_t>();
  int32_t *offsets = result.offsets.data<int32_t>(), *order = result.order.data<int32_t>();
  for (int64_t i = 0; i < n; ++i) ++offsets[key[i] + 1];
  for (int64_t v = 0; v < values; ++v) offsets[v + 1] += offsets[v];
  std::vector<int32_t> next(offsets, offsets + values);
  for (int64_t i = 0; i < n; ++i) order[next[static_cast<size_t>(key[i])]++] = static_cast<int32_t>(i);
  return result;
}

}  // namespace moxie
