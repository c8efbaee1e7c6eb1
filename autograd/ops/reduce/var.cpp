// SPDX-License-Identifier: Apache-2.0
// var and standard_deviation: the mean first, then the squares of what deviates from it.
#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/reduce/dimension.h"
#include "core/kernels/reduce/variance.h"
#include "core/reduce.h"

namespace moxie {
namespace {

// Sum of squared deviations, in the dtype of the statistics.
Array squares(const Array& x, const Array& mean, const Reduced& over) {
  const int64_t chunk = over.inner == 1 ? 4096 : 128, chunks = (over.n + chunk - 1) / chunk;
  const Array parts = Array::empty({over.outer, chunks, over.inner}, mean.options());
  dispatch_float("var", x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const ChunkSquares<T> kernel{x.data<T>(), mean.data<V>(), parts.data<V>(), over.n, over.inner, chunk, chunks};
    for_rows(x.device(), kernel, over.outer * chunks, (over.n < chunk ? over.n : chunk) * over.inner);
  });
  return reduce_sum(parts, over.outer, chunks, over.inner);
}

Tensor spread(const char* op, const Tensor& x, const Reduced& over, double correction, bool take_root) {
  const OpRange range(op);
  check(is_float(x.dtype()), "{}: needs a float dtype (f64, f32 or bf16), got {}", op, name_of(x.dtype()));
  const double count = static_cast<double>(over.n) - correction;
  check(count > 0, "{}: needs more than correction = {} elements, {} of shape {} are there", op, correction, over.n,
        x.shape());
  const Tensor total(reduce_sum(x.value(), over.outer, over.n, over.inner));
  // divided, so that equal numbers have exactly their own mean where the sum is exact
  const Array mean = div(total, Tensor::scalar(static_cast<double>(over.n), total.options())).value();
  Array exact = affine(Tensor(squares(x.value(), mean, over)), 1 / count, 0).value();
  if (take_root) exact = sqrt(Tensor(exact)).value();
  const Array root = take_root ? exact : Array();
  const Array y = exact.to(x.dtype()).reshape(over.result);
  return record(op, y, {x}, [=, x = x.value()](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    const int64_t chunk = over.inner == 1 ? 4096 : 1, chunks = (over.n + chunk - 1) / chunk;
    dispatch_float("backward", x.dtype(), [&]<class T>(T) {
      using V = Accumulator<T>;
      const VarianceBackward<T> kernel{x.data<T>(),
                                       mean.data<V>(),
                                       root.defined() ? root.data<V>() : nullptr,
                                       dy[0].data<T>(),
                                       dx.data<T>(),
                                       over.n,
                                       over.inner,
                                       chunk,
                                       chunks,
                                       static_cast<V>(2 / count),
                                       dx.accumulate};
      for_rows(x.device(), kernel, over.outer * chunks,
               over.inner == 1 ? (over.n < chunk ? over.n : chunk) : over.inner);
    });
  });
}

Reduced over_everything(const Shape& shape, bool keep) {
  Reduced over = reduce_over_everything(shape);
  if (keep) over.result = shape;
  for (int64_t i = 0; i < over.result.rank(); ++i) over.result = over.result.with(i, 1);
  return over;
}

}  // namespace

Tensor var(const Tensor& x, int64_t dim, VarianceOptions options) {
  return spread("var", x, reduce_over("var", x.shape(), dim, options.keep), options.correction, false);
}
Tensor var(const Tensor& x, VarianceOptions options) {
  return spread("var", x, over_everything(x.shape(), options.keep), options.correction, false);
}

Tensor standard_deviation(const Tensor& x, int64_t dim, VarianceOptions options) {
  const Reduced over = reduce_over("standard_deviation", x.shape(), dim, options.keep);
  return spread("standard_deviation", x, over, options.correction, true);
}
Tensor standard_deviation(const Tensor& x, VarianceOptions options) {
  return spread("standard_deviation", x, over_everything(x.shape(), options.keep), options.correction, true);
}

}  // namespace moxie
