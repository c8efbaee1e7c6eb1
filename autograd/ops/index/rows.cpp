// SPDX-License-Identifier: Apache-2.0
// embedding, index_add and top_k
#include "core/kernels/index/rows.h"

#include "autograd/ops/common.h"
#include "autograd/ops/index.h"
#include "core/kernels/index/gather.h"
#include "core/kernels/index/top_k.h"
#include "core/sort.h"

namespace moxie {
namespace {

Array gather_rows(const Array& x, const Array& index, const Shape& shape) {
  const Array y = Array::empty(shape, x.options());
  const int64_t cols = x.shape().product(1, x.shape().rank());
  dispatch(x.dtype(), [&]<class T>(T) {
    for_rows(x.device(), GatherRows<T>{x.data<T>(), index.data<int32_t>(), y.data<T>(), cols}, index.numel(), cols);
  });
  return y;
}

// into[index[i]] += source[i] (or =, where nothing is to be kept), every row of `into` in the order of i
void scatter_rows(const Array& into, const Array& index, const Array& source, bool accumulate) {
  if (into.dtype() == Dtype::bf16) {  // add up in f32, round once
    const Options options{Dtype::f32, into.device()};
    const Array wide = accumulate ? into.to(Dtype::f32) : Array::empty(into.shape(), options);
    scatter_rows(wide, index, source, accumulate);
    return into.copy_from(wide.to(Dtype::bf16));
  }
  const int64_t rows = into.shape()[0], cols = into.shape().product(1, into.shape().rank());
  const CountingSort sorted = counting_sort(index, rows);
  dispatch_float("index_add", source.dtype(), [&]<class From>(From) {
    dispatch_float("index_add", into.dtype(), [&]<class T>(T) {
      const SegmentSum<From, T> kernel{
          source.data<From>(), sorted.offsets.data<int32_t>(), sorted.order.data<int32_t>(), into.data<T>(), cols,
          accumulate};
      for_rows(into.device(), kernel, rows, cols);
    });
  });
}

}  // namespace

Tensor embedding(const Tensor& weight, const Array& index) {
  const OpRange range("embedding");
  check(weight.shape().rank() == 2 && is_float(weight.dtype()),
        "embedding: weight must be float [vocabulary, width], got {} {}", name_of(weight.dtype()), weight.shape());
  check_indices("embedding", index, weight.dim(0), weight.device());
  const Shape shape = index.shape().inserted(index.shape().rank(), weight.dim(1));
  return record("embedding", gather_rows(weight.value(), index, shape), {weight},
                [index](std::span<const Array> dy, Grads& grads) {
                  const Grads::Target dw = grads.into_wide(0);
                  scatter_rows(dw.array, index, dy[0], dw.accumulate);
                });
}

Tensor index_add(const Tensor& x, const Array& index, const Tensor& source) {
  const OpRange range("index_add");
  check_same_kind("index_add", x.value(), "x", source.value(), "source");
  check(x.shape().rank() >= 1 && index.shape().rank() == 1 && source.shape() == x.shape().with(0, index.numel()),
        "index_add: x must be [rows, ..], index [n] and source [n, ..], got x {}, index {} and source {}", x.shape(),
        index.shape(), source.shape());
  check_indices("index_add", index, x.dim(0), x.device());
  const Array y = x.value().clone();
  scatter_rows(y, index, source.value(), true);
  return record("index_add", y, {x, source}, [index, shape = source.shape()](std::span<const Array> dy, Grads& grads) {
    if (grads.needs(0)) grads.give(0, dy[0]);
    if (grads.needs(1)) grads.give(1, gather_rows(dy[0], index, shape));
  });
}

TopK top_k(const Tensor& x, int64_t k) {
  const OpRange range("top_k");
  check(x.shape().rank() >= 1, "top_k: needs at least one dimension, got a scalar");
  const int64_t cols = x.dim(-1), rows = x.shape().rows();
  check(k >= 1 && k <= cols, "top_k: k must be between 1 and the last size, got k = {}, shape {}", k, x.shape());
  const Array values = Array::empty(x.shape().with(-1, k), x.options());
  const Array indices = Array::empty(values.shape(), {Dtype::i32, x.device()});
  dispatch_float("top_k", x.dtype(), [&]<class T>(T) {
    const TopKRows<T> kernel{x.value().data<T>(), values.data<T>(), indices.data<int32_t>(), cols, k};
    for_rows(x.device(), kernel, rows, cols * k);
  });
  const Tensor result = record("top_k", values, {x}, [indices, rows, cols, k](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    if (!dx.accumulate) dx.array.fill(0);
    dispatch_float("backward", dx.array.dtype(), [&]<class T>(T) {
      const GatherBackward<T> kernel{indices.data<int32_t>(), dy[0].data<T>(), dx.data<T>(), cols, k, 1};
      for_rows(dx.array.device(), kernel, rows, k);
    });
  });
  return {result, indices};
}

}  // namespace moxie
