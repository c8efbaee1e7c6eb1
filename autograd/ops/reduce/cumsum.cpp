// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/common.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/reduce/dimension.h"
#include "core/kernels/reduce/cumulative_sum.h"

namespace moxie {
namespace {

// y (+)= the cumulative sums of x
void accumulate_along(const Array& x, const Array& y, const Reduced& along, CumulativeOptions options,
                      bool accumulate) {
  if (x.numel() == 0) return;
  const Array running = Array::empty({along.inner == 1 ? 0 : along.outer * along.inner}, {Dtype::f64, x.device()});
  dispatch_float("cumsum", x.dtype(), [&]<class T>(T) {
    using Kernel = CumulativeSum<T>;
    const int64_t strips = (along.inner + Kernel::strip - 1) / Kernel::strip;
    const Kernel kernel{x.data<T>(), y.data<T>(),       running.data<double>(), along.n,   along.inner,
                        strips,      options.exclusive, options.reverse,        accumulate};
    for_rows(x.device(), kernel, along.outer * strips, along.n * along.inner / strips);
  });
}

}  // namespace

Tensor cumsum(const Tensor& x, int64_t dim, CumulativeOptions options) {
  const OpRange range("cumsum");
  const Reduced along = reduce_over("cumsum", x.shape(), dim, true);
  check(is_float(x.dtype()), "cumsum: needs a float dtype (f64, f32 or bf16), got {}", name_of(x.dtype()));
  const Array y = Array::empty(x.shape(), x.options());
  accumulate_along(x.value(), y, along, options, false);
  return record("cumsum", y, {x}, [=](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    accumulate_along(dy[0], dx.array, along, {options.exclusive, !options.reverse}, dx.accumulate);
  });
}

}  // namespace moxie
