// SPDX-License-Identifier: Apache-2.0
// The Newton-Schulz iteration that makes matrices nearly orthogonal by products alone.
#pragma once
#include "core/array.h"

namespace moxie::nn {

// X_0 = X / |X|, X_{k+1} = a X_k + (b A + c A^2) X_k with A = X_k X_k^T. Each singular value s in (0, 1] goes to
// a s + b s^3 + c s^5. These coefficients (Jordan et al. 2024) rise steeply at 0, and after five iterations leave
// singular values of about 0.7 to 1.2 where a convergent polynomial would still be far from 1.
struct NewtonSchulz {
  int64_t iterations = 5;
  double a = 3.4445, b = -4.7750, c = 2.0315;
  double epsilon = 1e-7;  // least norm to divide by
};

// Matrices of one size: number i is [rows, cols] at data + i * stride.
template <class T> struct MatrixBatch {
  T* data;
  int64_t count, rows, cols, stride;
};

// Replaces each matrix by `scale` times its iterate, computed in T by three matrix products per iteration on the
// smaller side. A matrix of zeros stays so. T is float or double.
template <class T>
void newton_schulz(Device device, const MatrixBatch<T>& batch, const NewtonSchulz& options, double scale = 1);

}  // namespace moxie::nn
