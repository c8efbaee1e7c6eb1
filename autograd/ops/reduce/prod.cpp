// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/common.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/reduce/dimension.h"
#include "core/kernels/reduce/product.h"

namespace moxie {
namespace {

Tensor product(const Tensor& x, const Reduced& over) {
  const OpRange range("prod");
  const ProductWalk walk{over.n, over.inner};
  const int64_t rows = over.outer * walk.strips(), cols = rows == 0 ? 0 : x.numel() / rows;
  const Options exact{statistics_dtype(x.dtype()), x.device()};
  const Array y = Array::empty(over.result, x.options()), partial = Array::empty({over.outer * walk.lanes()}, exact);
  dispatch_float("prod", x.dtype(), [&]<class T>(T) {
    const Product<T> kernel{x.value().data<T>(), partial.data<Accumulator<T>>(), y.data<T>(), walk};
    for_rows(x.device(), kernel, rows, cols);
  });
  return record("prod", y, {x}, [=, x = x.value(), outer = over.outer](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    const Array later = Array::empty({x.numel()}, exact), earlier = Array::empty({outer * walk.lanes()}, exact);
    dispatch_float("backward", x.dtype(), [&]<class T>(T) {
      using V = Accumulator<T>;
      const ProductBackward<T> kernel{x.data<T>(), dy[0].data<T>(), dx.data<T>(), later.data<V>(), earlier.data<V>(),
                                      walk,        dx.accumulate};
      for_rows(x.device(), kernel, rows, cols);
    });
  });
}

}  // namespace

Tensor prod(const Tensor& x, int64_t dim, bool keep) { return product(x, reduce_over("prod", x.shape(), dim, keep)); }
Tensor prod(const Tensor& x) { return product(x, reduce_over_everything(x.shape())); }

}  // namespace moxie
