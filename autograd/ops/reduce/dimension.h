// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/shape.h"

namespace moxie {

// A shape seen as [outer, n, inner] around what is reduced, and the shape of the result.
struct Reduced {
  int64_t outer, n, inner;
  Shape result;
};

inline Reduced reduce_over(const char* op, const Shape& shape, int64_t dim, bool keep) {
  dim = normalize_dim(op, dim, shape);
  return {shape.product(0, dim), shape[dim], shape.product(dim + 1, shape.rank()),
          keep ? shape.with(dim, 1) : shape.without(dim)};
}

inline Reduced reduce_over_everything(const Shape& shape) { return {1, shape.numel(), 1, {}}; }

}  // namespace moxie
