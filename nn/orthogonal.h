// SPDX-License-Identifier: Apache-2.0
// Orthonormal rows or columns, by Gram-Schmidt.
#pragma once
#include "core/array.h"

namespace moxie::nn {

// A copy of the matrices of x [.., rows, cols] (f64, on the CPU) with orthonormal rows that span the same spaces, or
// columns where there are more rows. The factor that was taken off is triangular with a positive diagonal, so that
// normal numbers give matrices that are uniform over all orthogonal ones. Throws std::invalid_argument where the rows
// are linearly dependent.
Array orthonormalized(const Array& x);

}  // namespace moxie::nn
