// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/reduce/sum.h"
#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/reduce/sum_to.h"
#include "autograd/ops/shape.h"
#include "core/reduce.h"

namespace moxie {
namespace {

// scale * sum over the middle of x [outer, n, inner], recorded as `op` with result shape `shape`.
Tensor scaled_sum(const char* op, const Tensor& x, int64_t outer, int64_t n, int64_t inner, const Shape& shape,
                  double scale) {
  const OpRange range(op);
  check(is_float(x.dtype()), "{}: needs a float dtype (f64, f32 or bf16), got {}", op, name_of(x.dtype()));
  Array total = reduce_sum(x.value(), outer, n, inner);
  if (scale != 1) total = affine(Tensor(total), scale, 0).value();
  return record(op, total.to(x.dtype()).reshape(shape), {x}, [=](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", dy[0].dtype(), [&]<class T>(T) {
      const int64_t chunk = inner == 1 ? 4096 : 1, chunks = (n + chunk - 1) / chunk;
      const Expand<T> kernel{dy[0].data<T>(),       dx.data<T>(), n, inner, chunk, chunks,
                             Accumulator<T>(scale), dx.accumulate};
      for_rows(dy[0].device(), kernel, outer * chunks, inner == 1 ? (n < chunk ? n : chunk) : inner);
    });
  });
}

Tensor reduce_dim(const char* op, const Tensor& x, int64_t dim, bool keep, bool average) {
  const Shape& shape = x.shape();
  dim = normalize_dim(op, dim, shape);
  const int64_t n = shape[dim];
  check(!average || n > 0, "{}: dimension {} of shape {} is empty", op, dim, shape);
  return scaled_sum(op, x, shape.product(0, dim), n, shape.product(dim + 1, shape.rank()),
                    keep ? shape.with(dim, 1) : shape.without(dim), average ? 1.0 / static_cast<double>(n) : 1.0);
}

}  // namespace

Tensor sum(const Tensor& x, int64_t dim, bool keep) { return reduce_dim("sum", x, dim, keep, false); }
Tensor mean(const Tensor& x, int64_t dim, bool keep) { return reduce_dim("mean", x, dim, keep, true); }

Tensor sum(const Tensor& x) { return scaled_sum("sum", x, 1, x.numel(), 1, {}, 1.0); }
Tensor mean(const Tensor& x) {
  check(x.numel() > 0, "mean: shape {} is empty", x.shape());
  return scaled_sum("mean", x, 1, x.numel(), 1, {}, 1.0 / static_cast<double>(x.numel()));
}

Array sum_to(const Array& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Array result = x;
  Shape current = x.shape();
  const int64_t extra = current.rank() - shape.rank();
  for (int64_t dim = 0; dim < current.rank(); ++dim) {
    const bool broadcast = current[dim] != 1 && (dim < extra || shape[dim - extra] == 1);
    if (!broadcast) continue;
    int64_t last = dim + 1;  // sum neighbouring broadcast dimensions in one pass
    while (last < current.rank() && (last < extra || shape[last - extra] == 1)) ++last;
    result =
        reduce_sum(result, current.product(0, dim), current.product(dim, last), current.product(last, current.rank()));
    for (int64_t i = dim; i < last; ++i) current = current.with(i, 1);
  }
  return result.reshape(shape);
}

}  // namespace moxie
