// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/index/one_hot.h"

#include "autograd/ops/common.h"
#include "autograd/ops/index.h"

namespace moxie {

Tensor one_hot(const Array& index, int64_t classes, Dtype dtype) {
  check(classes >= 0, "one_hot: classes must not be negative, got {}", classes);
  check_indices("one_hot", index, classes, index.device());
  const Array y = Array::empty(index.shape().inserted(index.shape().rank(), classes), {dtype, index.device()});
  dispatch(dtype, [&]<class T>(T) {
    for_rows(index.device(), OneHot<T>{index.data<int32_t>(), y.data<T>(), classes}, index.numel(), classes);
  });
  return Tensor(y);
}

}  // namespace moxie
