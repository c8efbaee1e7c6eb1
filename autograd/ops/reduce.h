// SPDX-License-Identifier: Apache-2.0
// Sums and their like, over one dimension or over everything.
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

}  // namespace moxie
