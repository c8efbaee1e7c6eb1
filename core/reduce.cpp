// SPDX-License-Identifier: Apache-2.0
#include "core/reduce.h"

#include "core/kernels/reduce/sum.h"
#include "core/launch.h"

namespace moxie {

Array reduce_sum(const Array& x, int64_t outer, int64_t n, int64_t inner) {
  check_internal(x.numel() == outer * n * inner, "reduce_sum: {} is not {} x {} x {}", x.shape(), outer, n, inner);
  const int64_t chunk = inner == 1 ? 4096 : lines_of_chunk(x.device());
  const int64_t chunks = n <= chunk ? 1 : (n + chunk - 1) / chunk;
  const Array y = Array::empty({outer, chunks, inner}, {statistics_dtype(x.dtype()), x.device()});
  dispatch_float("reduce_sum", x.dtype(), [&]<class T>(T) {
    const ChunkSum<T> kernel{x.data<T>(), y.data<Accumulator<T>>(), n, inner, chunk, chunks};
    for_rows(x.device(), kernel, outer * chunks, (n < chunk ? n : chunk) * inner);
  });
  return chunks == 1 ? y.reshape({outer, inner}) : reduce_sum(y, outer, chunks, inner);
}

}  // namespace moxie
