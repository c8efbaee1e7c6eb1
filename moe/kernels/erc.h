// SPDX-License-Identifier: Apache-2.0
// The kernels of the ERC loss (arXiv 2512.23447): proxy noise (Eq. 4), the norms M[i, j] = |R~[i] W_g^j|, the hinges of
// Eq. 3 and their gradients. Matrices M are [experts, experts]; products are [block of experts j, experts i, hidden],
// or of one expert and a part of the hidden rows.
#pragma once
#include <limits>

#include "core/kernels/elementwise/accumulate.h"
#include "core/math.h"
#include "core/philox.h"

namespace moxie::moe {

// distances[i, j] = |R[i] - R[j]|^2, and |R[i]|^2 for j = i; a row is one pair.
template <class T> struct ErcDistances {
  const T* router;
  T* distances;
  int64_t experts, width;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t i = row / experts, j = row % experts;
    const T *mine = router + i * width, *other = router + j * width;
    const bool same = i == j;
    const T total = team.sum(width, [=](int64_t k) {
      const T difference = same ? mine[k] : mine[k] - other[k];
      return difference * difference;
    });
    T* out = distances + row;
    team.once([=] { *out = total; });
  }
};

// Eq. 4: epsilon_i = min over j != i of |R[i] - R[j]| / (2 |R[i]|); 0 for a zero row or a single expert.
template <class T> struct ErcBound {
  const T* distances;
  T* epsilon;
  int64_t experts;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t i) const {
    const T* row = distances + i * experts;
    const T squares = row[i];
    const T nearest =
        -team.max(experts, [=](int64_t j) { return j == i ? -std::numeric_limits<T>::infinity() : -row[j]; });
    T* out = epsilon + i;
    const bool defined = experts > 1 && squares != T(0);
    const T bound = defined ? math::sqrt(nearest) / (T(2) * math::sqrt(squares)) : T(0);
    team.once([=] { *out = bound; });
  }
};

// delta[i, k] uniform in (1 - epsilon_i, 1 + epsilon_i), drawn in f32
template <class T> struct ErcNoise {
  const T* epsilon;
  T* delta;
  int64_t width;
  RandomKey key;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t i) const {
    T* out = delta + i * width;
    const T bound = epsilon[i];
    each_uniform(team, key.resolved(), static_cast<uint64_t>(i * width), width,
                 [=](int64_t k, float u) { out[k] = T(1) + bound * T(2 * u - 1); });
  }
};

// M[i, first + b] = |Y[b, i]| for row b * experts + i of the products. Where an expert's products come in several
// pieces, each but the first adds to the squares of those before, and the last takes the root.
template <class T> struct ErcNorms {
  const T* products;
  T* matrix;
  int64_t experts, hidden, first;
  bool add, last;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* y = products + row * hidden;
    const T squares = team.sum(hidden, [=](int64_t k) { return y[k] * y[k]; });
    T* out = matrix + row % experts * experts + first + row / experts;
    const bool adds = add, root = last;
    team.once([=] {
      const T total = adds ? *out + squares : squares;
      *out = root ? math::sqrt(total) : total;
    });
  }
};

// Eq. 3 of expert i: partial[i] = sum over j != i of max(M[i,j] - alpha M[i,i], 0) + max(M[j,i] - alpha M[i,i], 0)
template <class T> struct ErcHinge {
  const T* matrix;
  T* partial;
  int64_t experts;
  T alpha;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t i) const {
    const T* m = matrix;
    const int64_t n = experts;
    const T limit = alpha * m[i * n + i];
    const T total = team.sum(n, [=](int64_t j) {
      const T across = m[i * n + j] - limit, down = m[j * n + i] - limit;
      const T hinge = (across < T(0) ? T(0) : across) + (down < T(0) ? T(0) : down);
      return j == i ? T(0) : hinge;
    });
    T* out = partial + i;
    team.once([=] { *out = total; });
  }
};

// coefficient[i, j] = dL/dM[i, j] / M[i, j] (0 where M is 0), with a[i,j] = [M[i,j] > alpha M[i,i]] and
// b[i,j] = [M[i,j] > alpha M[j,j]]: dL/dM[i,j] = (a[i,j] + b[i,j]) / n^2 for j != i and
// dL/dM[i,i] = -alpha / n^2 * sum over j != i of (a[i,j] + b[j,i]); hinges are strict.
template <class T> struct ErcHingeBackward {
  const T* matrix;
  const T* dloss;
  T* coefficient;
  int64_t experts;
  T alpha;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t i) const {
    const T* m = matrix;
    T* out = coefficient + i * experts;
    const int64_t n = experts;
    const T limit = alpha * m[i * n + i], slope = alpha, scale = *dloss / static_cast<T>(n * n);
    const T active = team.sum(n, [=](int64_t j) {
      const T hinges = T(m[i * n + j] > limit) + T(m[j * n + i] > limit);
      return j == i ? T(0) : hinges;
    });
    team.each(n, [=](int64_t j) {
      const T value = m[i * n + j];
      const T off = T(value > limit) + T(value > slope * m[j * n + j]);
      const T derivative = scale * (j == i ? -slope * active : off);
      out[j] = value == T(0) ? T(0) : derivative / value;
    });
  }
};

// dY[b, i] = coefficient[i, first + b] Y[b, i]; may be in place
template <class T> struct ErcScaleProducts {
  const T* products;
  const T* coefficient;
  T* out;
  int64_t experts, hidden, first;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const T* y = products + row * hidden;
    T* dy = out + row * hidden;
    const T factor = coefficient[row % experts * experts + first + row / experts];
    team.each(hidden, [=](int64_t k) { dy[k] = factor * y[k]; });
  }
};

// Zeros in all but the first `skipped` numbers of each row of `stride`.
template <class T> struct ErcClearRows {
  T* matrix;
  int64_t stride, skipped;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    T* out = matrix + row * stride + skipped;
    team.each(stride - skipped, [=](int64_t i) { out[i] = T(0); });
  }
};

}  // namespace moxie::moe
