// SPDX-License-Identifier: Apache-2.0
#include "nn/orthogonal.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/gemm.h"

namespace moxie::nn {
namespace {

constexpr int64_t block_rows = 32;

// c [m, n] = a [m, k] op(b), or c += ..; all with leading dimension `cols` but c where it is said.
void multiply(int64_t m, int64_t n, int64_t k, const double* a, int64_t lda, const double* b, int64_t ldb,
              bool transpose_b, double* c, int64_t ldc, bool accumulate) {
  Gemm product;
  product.dtype = product.out_dtype = Dtype::f64;
  product.transpose_b = transpose_b, product.accumulate = accumulate;
  product.m = m, product.n = n, product.k = k;
  product.a = a, product.lda = lda, product.b = b, product.ldb = ldb, product.c = c, product.ldc = ldc;
  gemm(Device::cpu(), product);
}

double dot(const double* x, const double* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

// Makes the rows of a block orthonormal among themselves.
void orthonormalize_block(double* block, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    double* row = block + i * cols;
    for (int64_t j = 0; j < i; ++j) {
      const double* earlier = block + j * cols;
      const double along = dot(row, earlier, cols);
      for (int64_t c = 0; c < cols; ++c) row[c] -= along * earlier[c];
    }
    const double length = std::sqrt(dot(row, row, cols));
    check(length > 0, "orthonormalized: the rows are linearly dependent");
    for (int64_t c = 0; c < cols; ++c) row[c] /= length;
  }
}

// Block by block: off with what lies along the rows before, by matrix products; then within the block. Twice, since the
// first time leaves rounding errors as large as the part that was taken off.
void orthonormalize_rows(double* x, int64_t rows, int64_t cols) {
  std::vector<double> along;
  for (int64_t first = 0; first < rows; first += block_rows) {
    const int64_t count = std::min(block_rows, rows - first);
    double* block = x + first * cols;
    for (int pass = 0; pass < 2; ++pass) {
      along.resize(static_cast<size_t>(count * first));
      multiply(count, first, cols, block, cols, x, cols, true, along.data(), first, false);
      for (double& value : along) value = -value;
      multiply(count, cols, first, along.data(), first, x, cols, false, block, cols, true);
      orthonormalize_block(block, count, cols);
    }
  }
}

void transpose(const double* x, int64_t rows, int64_t cols, double* y) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) y[c * rows + r] = x[r * cols + c];
}

}  // namespace

Array orthonormalized(const Array& x) {
  check(x.shape().rank() >= 2 && x.dtype() == Dtype::f64 && x.device().is_cpu(),
        "orthonormalized: x must be f64 matrices [.., rows, cols] on the CPU, got {} {} on {}", name_of(x.dtype()),
        x.shape(), x.device().name());
  const Array result = x.clone();
  const int64_t rows = x.dim(-2), cols = x.dim(-1), numel = rows * cols;
  if (x.numel() == 0) return result;
  std::vector<double> turned(rows > cols ? static_cast<size_t>(numel) : 0);
  for (int64_t i = 0; i < x.numel() / numel; ++i) {
    double* matrix = result.data<double>() + i * numel;
    if (rows <= cols) {
      orthonormalize_rows(matrix, rows, cols);
      continue;
    }
    transpose(matrix, rows, cols, turned.data());
    orthonormalize_rows(turned.data(), cols, rows);
    transpose(turned.data(), cols, rows, matrix);
  }
  return result;
}

}  // namespace moxie::nn
