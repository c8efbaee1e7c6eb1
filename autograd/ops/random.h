// SPDX-License-Identifier: Apache-2.0
// Ops that draw random numbers.
#pragma once
#include "autograd/tensor.h"
#include "core/philox.h"

namespace moxie {

// x with each element set to 0 with probability p and divided by 1 - p otherwise; the same key draws the same mask. p
// is rounded to a multiple of 2^-16 (and to 1 - 2^-16 at most) for both, so that the expectation is x exactly.
Tensor dropout(const Tensor& x, double p, RandomKey key);

}  // namespace moxie
