// SPDX-License-Identifier: Apache-2.0
// max, min, argmax and argmin
#include "core/kernels/reduce/extreme.h"

#include <limits>

#include "autograd/ops/common.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/reduce/dimension.h"
#include "core/kernels/index/gather.h"

namespace moxie {
namespace {

constexpr int largest = 1, smallest = -1;

struct Extreme {
  Array value;  // [outer * inner]
  Array index;  // the same, i32: which of the n
};

// Of rows x [outer, n]: piece by piece, then of the pieces' extremes.
template <class T>
Extreme extreme_of_rows(const Array& x, const Array& source, int64_t outer, int64_t n, int direction) {
  using Kernel = ExtremeOfRow<T>;
  const int64_t pieces = (n + Kernel::piece - 1) / Kernel::piece;
  const Extreme y{Array::empty({outer * pieces}, x.options()),
                  Array::empty({outer * pieces}, {Dtype::i32, x.device()})};
  const Kernel kernel{x.data<T>(),
                      source.defined() ? source.data<int32_t>() : nullptr,
                      y.value.data<T>(),
                      y.index.data<int32_t>(),
                      n,
                      pieces,
                      static_cast<Accumulator<T>>(direction)};
  for_rows(x.device(), kernel, outer * pieces, n < Kernel::piece ? n : Kernel::piece);
  return pieces == 1 ? y : extreme_of_rows<T>(y.value, y.index, outer, pieces, direction);
}

template <class T> Extreme extreme_of_columns(const Array& x, int64_t outer, int64_t n, int64_t inner, int direction) {
  using Kernel = ExtremeOfColumns<T>;
  const int64_t strips = (inner + Kernel::strip - 1) / Kernel::strip;
  const Extreme y{Array::empty({outer * inner}, x.options()), Array::empty({outer * inner}, {Dtype::i32, x.device()})};
  const Kernel kernel{x.data<T>(),
                      y.value.data<T>(),
                      y.index.data<int32_t>(),
                      n,
                      inner,
                      strips,
                      static_cast<Accumulator<T>>(direction)};
  for_rows(x.device(), kernel, outer * strips, n * (inner < Kernel::strip ? inner : Kernel::strip));
  return y;
}

Extreme extreme(const char* op, const Array& x, const Reduced& over, int direction) {
  check(over.n > 0, "{}: there is nothing to choose from in shape {}", op, x.shape());
  check(over.n <= std::numeric_limits<int32_t>::max(), "{}: i32 indices count to 2^31 - 1, shape {} has more", op,
        x.shape());
  return dispatch_float(op, x.dtype(), [&]<class T>(T) {
    return over.inner == 1 ? extreme_of_rows<T>(x, {}, over.outer, over.n, direction)
                           : extreme_of_columns<T>(x, over.outer, over.n, over.inner, direction);
  });
}

Tensor extreme_value(const char* op, const Tensor& x, const Reduced& over, int direction) {
  const OpRange range(op);
  const Extreme y = extreme(op, x.value(), over, direction);
  return record(
      op, y.value.reshape(over.result), {x}, [over, index = y.index](std::span<const Array> dy, Grads& grads) {
        const Grads::Target dx = grads.into(0);
        if (!dx.accumulate) dx.array.fill(0);
        dispatch_float("backward", dx.array.dtype(), [&]<class T>(T) {
          const GatherBackward<T> kernel{index.data<int32_t>(), dy[0].data<T>(), dx.data<T>(), over.n, 1, over.inner};
          for_rows(dx.array.device(), kernel, over.outer, over.inner);
        });
      });
}

Array extreme_index(const char* op, const Tensor& x, const Reduced& over, int direction) {
  return extreme(op, x.value(), over, direction).index.reshape(over.result);
}

}  // namespace

Tensor max(const Tensor& x, int64_t dim, bool keep) {
  return extreme_value("max", x, reduce_over("max", x.shape(), dim, keep), largest);
}
Tensor min(const Tensor& x, int64_t dim, bool keep) {
  return extreme_value("min", x, reduce_over("min", x.shape(), dim, keep), smallest);
}
Tensor max(const Tensor& x) { return extreme_value("max", x, reduce_over_everything(x.shape()), largest); }
Tensor min(const Tensor& x) { return extreme_value("min", x, reduce_over_everything(x.shape()), smallest); }

Array argmax(const Tensor& x, int64_t dim, bool keep) {
  return extreme_index("argmax", x, reduce_over("argmax", x.shape(), dim, keep), largest);
}
Array argmin(const Tensor& x, int64_t dim, bool keep) {
  return extreme_index("argmin", x, reduce_over("argmin", x.shape(), dim, keep), smallest);
}
Array argmax(const Tensor& x) { return extreme_index("argmax", x, reduce_over_everything(x.shape()), largest); }
Array argmin(const Tensor& x) { return extreme_index("argmin", x, reduce_over_everything(x.shape()), smallest); }

}  // namespace moxie
