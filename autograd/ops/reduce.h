// SPDX-License-Identifier: Apache-2.0
// Sums, extremes and their like, over one dimension or over everything.
#pragma once
#include "autograd/tensor.h"

namespace moxie {

// Over one dimension, which disappears (or stays with size 1 where `keep`).
Tensor sum(const Tensor& x, int64_t dim, bool keep = false);
Tensor mean(const Tensor& x, int64_t dim, bool keep = false);
Tensor logsumexp(const Tensor& x, int64_t dim, bool keep = false);
// Over everything; the result is a scalar.
Tensor sum(const Tensor& x);
Tensor mean(const Tensor& x);

// The largest and the smallest, NaN where there is a NaN. The gradient goes to the one element that argmax or argmin
// names. Throws where there is nothing to choose from.
Tensor max(const Tensor& x, int64_t dim, bool keep = false);
Tensor max(const Tensor& x);
Tensor min(const Tensor& x, int64_t dim, bool keep = false);
Tensor min(const Tensor& x);
// Where they are, as i32: the first NaN where there is one, otherwise the lowest index among equals. Over everything
// the index counts in row-major order.
Array argmax(const Tensor& x, int64_t dim, bool keep = false);
Array argmax(const Tensor& x);
Array argmin(const Tensor& x, int64_t dim, bool keep = false);
Array argmin(const Tensor& x);

// Products, 1 of nothing. The gradient is right for any number of zeros.
Tensor prod(const Tensor& x, int64_t dim, bool keep = false);
Tensor prod(const Tensor& x);

// The mean square deviation from the mean, sum (x - mean)^2 / (n - correction), and its root, whose gradient is 0 where
// it is 0. Correction 1 is the unbiased estimate from a sample, 0 the variance of the numbers themselves. Over
// everything, `keep` leaves every dimension with size 1. Throws unless n is above the correction.
struct VarianceOptions {
  double correction = 1;
  bool keep = false;
};
Tensor var(const Tensor& x, int64_t dim, VarianceOptions options = {});
Tensor var(const Tensor& x, VarianceOptions options = {});
Tensor standard_deviation(const Tensor& x, int64_t dim, VarianceOptions options = {});
Tensor standard_deviation(const Tensor& x, VarianceOptions options = {});

// The sum of what comes before along `dim` and of the element itself, added up in f64. x's shape.
struct CumulativeOptions {
  bool exclusive = false;  // without the element itself
  bool reverse = false;    // what comes after instead of before
};
Tensor cumsum(const Tensor& x, int64_t dim, CumulativeOptions options = {});

}  // namespace moxie
