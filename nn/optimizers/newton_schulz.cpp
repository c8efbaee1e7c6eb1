// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizers/newton_schulz.h"

#include <algorithm>
#include <utility>

#include "core/gemm.h"
#include "core/kernels/optimizer/muon.h"
#include "core/launch.h"

namespace moxie::nn {
namespace {

// The product of two batches of matrices, one of which may be transposed.
template <class T>
Gemm product(const MatrixBatch<T>& a, bool transpose_a, const MatrixBatch<T>& b, bool transpose_b,
             const MatrixBatch<T>& c) {
  Gemm gemm;
  gemm.dtype = gemm.out_dtype = dtype_of<T>;
  gemm.transpose_a = transpose_a, gemm.transpose_b = transpose_b;
  gemm.m = c.rows, gemm.n = c.cols, gemm.k = transpose_a ? a.rows : a.cols, gemm.batch = c.count;
  gemm.a = a.data, gemm.lda = a.cols, gemm.stride_a = a.stride;
  gemm.b = b.data, gemm.ldb = b.cols, gemm.stride_b = b.stride;
  gemm.c = c.data, gemm.ldc = c.cols, gemm.stride_c = c.stride;
  return gemm;
}

template <class T> MatrixBatch<T> workspace(const Array& memory, int64_t count, int64_t rows, int64_t cols) {
  return {memory.data<T>(), count, rows, cols, rows * cols};
}

}  // namespace

template <class T>
void newton_schulz(Device device, const MatrixBatch<T>& batch, const NewtonSchulz& options, double scale) {
  const int64_t count = batch.count, rows = batch.rows, cols = batch.cols, side = std::min(rows, cols);
  if (count == 0 || side == 0) return;
  const bool is_wide = rows <= cols;
  const ::moxie::Options kind{dtype_of<T>, device};
  const Array second = Array::empty({count, rows, cols}, kind);
  const Array gram_memory = Array::empty({count, side, side}, kind),
              square_memory = Array::empty({count, side, side}, kind);
  const MatrixBatch<T> gram = workspace<T>(gram_memory, count, side, side),
                       square = workspace<T>(square_memory, count, side, side);
  MatrixBatch<T> from = batch, to = workspace<T>(second, count, rows, cols);
  if (options.iterations % 2 != 0) std::swap(from, to);  // so that the last iterate is in the batch's own place
  for_rows(device,
           NormalizeMatrix<T>{batch.data, from.data, rows * cols, batch.stride, from.stride, T(options.epsilon)}, count,
           rows * cols);
  for (int64_t i = 0; i < options.iterations; ++i) {
    const double factor = i + 1 == options.iterations ? scale : 1;
    gemm(device, is_wide ? product(from, false, from, true, gram) : product(from, true, from, false, gram));
    gemm(device, product(gram, false, gram, false, square));
    for_rows(device,
             QuinticRows<T>{gram.data, square.data, side, T(factor * options.a), T(factor * options.b),
                            T(factor * options.c)},
             count * side, side);
    gemm(device, is_wide ? product(square, false, from, false, to) : product(from, false, square, false, to));
    std::swap(from, to);
  }
}

template void newton_schulz<float>(Device, const MatrixBatch<float>&, const NewtonSchulz&, double);
template void newton_schulz<double>(Device, const MatrixBatch<double>&, const NewtonSchulz&, double);

}  // namespace moxie::nn
