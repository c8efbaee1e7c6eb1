// SPDX-License-Identifier: Apache-2.0
// permute, transpose and flip
#include <algorithm>
#include <numeric>

#include "autograd/ops/common.h"
#include "autograd/ops/shape.h"
#include "autograd/ops/shape/strided.h"

namespace moxie {
namespace {

Array permuted(const Array& x, const std::vector<int64_t>& order) {
  const std::vector<int64_t> x_strides = strides_of(x.shape());
  std::vector<int64_t> sizes, strides;
  for (const int64_t dim : order) {
    sizes.push_back(x.shape()[dim]);
    strides.push_back(x_strides[static_cast<size_t>(dim)]);
  }
  return strided_copy(x, Shape(std::span<const int64_t>(sizes)), strides);
}

Array flipped(const Array& x, const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides = strides_of(x.shape());
  int64_t first = 0;
  for (const int64_t dim : dims) {
    int64_t& stride = strides[static_cast<size_t>(dim)];
    first += stride * (x.shape()[dim] - 1);
    stride = -stride;
  }
  return strided_copy(x, x.shape(), strides, first);
}

}  // namespace

Tensor permute(const Tensor& x, std::span<const int64_t> order) {
  const OpRange range("permute");
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

Tensor flip(const Tensor& x, std::span<const int64_t> dims) {
  const OpRange range("flip");
  std::vector<int64_t> all;
  for (const int64_t dim : dims) {
    all.push_back(normalize_dim("flip", dim, x.shape()));
    check(std::count(all.begin(), all.end(), all.back()) == 1, "flip: dimension {} of shape {} is named twice",
          all.back(), x.shape());
  }
  return record("flip", flipped(x.value(), all), {x},
                [all](std::span<const Array> dy, Grads& grads) { grads.give(0, flipped(dy[0], all)); });
}

Tensor flip(const Tensor& x, std::initializer_list<int64_t> dims) {
  return flip(x, std::span<const int64_t>(dims.begin(), dims.size()));
}

}  // namespace moxie
