// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "autograd/ops/common.h"
#include "autograd/ops/shape.h"
#include "core/kernels/shape/strided_copy.h"

namespace moxie {
namespace {

Array permuted(const Array& x, const std::vector<int64_t>& order) {
  const Shape& shape = x.shape();
  std::vector<int64_t> sizes, strides;
  for (const int64_t dim : order) {
    sizes.push_back(shape[dim]);
    strides.push_back(shape.product(dim + 1, shape.rank()));
  }
  const Array y = Array::empty(Shape(std::span<const int64_t>(sizes)), x.options());
  if (y.numel() == 0) return y;
  dispatch(x.dtype(), [&]<class T>(T) {
    StridedCopy<T> kernel{x.data<T>(), y.data<T>(), static_cast<int>(shape.rank()), {}, {}};
    std::copy(sizes.begin(), sizes.end(), kernel.size);
    std::copy(strides.begin(), strides.end(), kernel.stride);
    for_rows(x.device(), kernel, y.shape().rows(), y.shape().cols());
  });
  return y;
}

}  // namespace

Tensor permute(const Tensor& x, std::span<const int64_t> order) {
  const int64_t rank = x.shape().rank();
  std::vector<int64_t> dims, inverse(order.size(), -1);
  check(static_cast<int64_t>(order.size()) == rank, "permute: order names {} dimensions, shape {} has {}", order.size(),
        x.shape(), rank);
  for (size_t i = 0; i < order.size(); ++i) {
    dims.push_back(normalize_dim("permute", order[i], x.shape()));
    int64_t& place = inverse[static_cast<size_t>(dims.back())];
    check(place == -1, "permute: dimension {} of shape {} is named twice", dims.back(), x.shape());
    place = static_cast<int64_t>(i);
  }
  if (rank == 0) return x;
  return record("permute", permuted(x.value(), dims), {x},
                [inverse](std::span<const Array> dy, Grads& grads) { grads.give(0, permuted(dy[0], inverse)); });
}

Tensor permute(const Tensor& x, std::initializer_list<int64_t> order) {
  return permute(x, std::span<const int64_t>(order.begin(), order.size()));
}

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) {
  std::vector<int64_t> order(static_cast<size_t>(x.shape().rank()));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[static_cast<size_t>(normalize_dim("transpose", dim0, x.shape()))],
            order[static_cast<size_t>(normalize_dim("transpose", dim1, x.shape()))]);
  return permute(x, order);
}

}  // namespace moxie
