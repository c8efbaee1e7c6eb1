// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/shape/strided.h"

#include <algorithm>

#include "core/kernels/shape/strided_copy.h"
#include "core/launch.h"

namespace moxie {
namespace {

struct Plan {
  std::vector<int64_t> size, stride;
};

// Without dimensions of one element, and with neighbours merged where one step is as long as all of the inner ones.
Plan merged(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) {
  Plan plan;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 1) continue;
    if (!plan.size.empty() && plan.stride.back() == strides[i] * sizes[i]) {
      plan.size.back() *= sizes[i];
      plan.stride.back() = strides[i];
      continue;
    }
    plan.size.push_back(sizes[i]);
    plan.stride.push_back(strides[i]);
  }
  if (plan.size.empty()) plan = {{1}, {1}};
  return plan;
}

// The dimension that is contiguous in x where the last one is not, or -1: only long ones are worth tiles.
int contiguous_elsewhere(const Plan& plan) {
  constexpr int64_t worth = 8;
  const int64_t step = plan.stride.back();
  if (step == 0 || step == 1 || plan.size.back() < worth) return -1;
  for (size_t i = 0; i + 1 < plan.size.size(); ++i)
    if (plan.stride[i] == 1 && plan.size[i] >= worth) return static_cast<int>(i);
  return -1;
}

template <class T> void launch(const T* x, const Array& y, const Plan& plan) {
  const size_t rank = plan.size.size();
  const int across = contiguous_elsewhere(plan);
  if (across < 0) {
    StridedCopy<T> kernel{x, y.data<T>(), static_cast<int>(rank), {}, {}, 0, 0};
    std::copy(plan.size.begin(), plan.size.end(), kernel.size);
    std::copy(plan.stride.begin(), plan.stride.end(), kernel.stride);
    const int64_t cols = plan.size.back();
    kernel.lines = y.numel() / cols;
    kernel.block = std::max<int64_t>(1, 4096 / cols);
    const int64_t rows = (kernel.lines + kernel.block - 1) / kernel.block;
    return for_rows(y.device(), kernel, rows, std::min(kernel.lines, kernel.block) * cols);
  }
  TransposeCopy<T> kernel{x, y.data<T>(), static_cast<int>(rank), across, {}, {}, {}};
  std::copy(plan.size.begin(), plan.size.end(), kernel.size);
  std::copy(plan.stride.begin(), plan.stride.end(), kernel.stride);
  int64_t step = 1;
  for (size_t i = rank; i-- > 0;) {
    kernel.y_stride[i] = step;
    step *= plan.size[i];
  }
  const int64_t tiles = kernel.all_tiles();
  for_rows(y.device(), kernel, tiles, std::max<int64_t>(1, y.numel() / tiles));
}

}  // namespace

std::vector<int64_t> strides_of(const Shape& shape) {
  std::vector<int64_t> strides;
  for (int64_t i = 0; i < shape.rank(); ++i) strides.push_back(shape.product(i + 1, shape.rank()));
  return strides;
}

Array strided_copy(const Array& x, const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                   int64_t first) {
  int64_t numel = 1;
  for (const int64_t size : sizes) numel *= size;
  const Array y = Array::empty({numel}, x.options());
  if (numel == 0) return y;
  const Plan plan = merged(sizes, strides);
  check_internal(plan.size.size() <= StridedCopy<float>::max_rank, "strided_copy: {} dimensions", plan.size.size());
  dispatch(x.dtype(), [&]<class T>(T) { launch(x.data<T>() + first, y, plan); });
  return y;
}

Array strided_copy(const Array& x, const Shape& shape, const std::vector<int64_t>& strides, int64_t first) {
  return strided_copy(x, {shape.begin(), shape.end()}, strides, first).reshape(shape);
}

void copy_lines(const Array& x, Lines from, const Array& y, Lines to, int64_t count, int64_t cols, bool accumulate) {
  if (count * cols == 0) return;
  constexpr int64_t chunk = 16384;
  const int64_t chunks = (cols + chunk - 1) / chunk;
  dispatch(y.dtype(), [&]<class T>(T) {
    const CopyRows<T> kernel{
        x.data<T>() + from.first, from.stride, y.data<T>() + to.first, to.stride, cols, chunk, chunks, accumulate};
    for_rows(y.device(), kernel, count * chunks, std::min(chunk, cols));
  });
}

}  // namespace moxie
