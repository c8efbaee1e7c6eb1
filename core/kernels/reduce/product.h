// SPDX-License-Identifier: Apache-2.0
// Products. The gradient of each factor is the product of the others, multiplied out without a division: right for any
// number of zeros.
#pragma once
#include "core/dtype.h"
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// How x [outer, n, inner] is walked: in steps of several lanes side by side. For inner > 1 the lanes are a strip of
// columns; for inner = 1 a line is cut into lanes, and step k has its elements [k lanes, (k + 1) lanes).
struct ProductWalk {
  static constexpr int64_t widest = 64, strip = 1024;
  int64_t n, inner;

  MOXIE_FN int64_t strips() const { return inner == 1 ? 1 : (inner + strip - 1) / strip; }
  // How many lanes one of `outer` has, all strips together: the size of a partial product.
  MOXIE_FN int64_t lanes() const { return inner > 1 ? inner : n < widest ? n : widest; }
  MOXIE_FN int64_t steps() const { return inner > 1 ? n : n == 0 ? 0 : (n + lanes() - 1) / lanes(); }
  MOXIE_FN int64_t first_lane(int64_t row) const { return row % strips() * strip; }
  // Lanes of step k in the strip that begins at lane `first`.
  MOXIE_FN int64_t width(int64_t k, int64_t first) const {
    const int64_t end = inner > 1 ? inner : n - k * lanes(), left = (end < lanes() ? end : lanes()) - first;
    return left < strip ? left : strip;
  }
};

// y = the product of x [outer, n, inner] over the middle; partial [outer, lanes] is scratch.
template <class T> struct Product {
  using V = Accumulator<T>;
  const T* x;
  V* partial;
  T* y;
  ProductWalk walk;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t outer = row / walk.strips(), first = walk.first_lane(row), lanes = walk.lanes();
    const int64_t steps = walk.steps();
    const int64_t all = lanes - first < ProductWalk::strip ? lanes - first : ProductWalk::strip;
    const T* in = x + outer * walk.n * walk.inner + first;
    V* product = partial + outer * lanes + first;
    team.each(all, [=](int64_t l) { product[l] = V(1); });
    for (int64_t k = 0; k < steps; ++k) {
      const T* line = in + k * lanes;
      team.each(walk.width(k, first), [=](int64_t l) { product[l] *= V(line[l]); });
    }
    if (walk.inner > 1) {
      T* out = y + outer * walk.inner + first;
      team.each(all, [=](int64_t l) { out[l] = static_cast<T>(product[l]); });
      return;
    }
    T* out = y + outer;
    team.sync();
    team.once([=] {
      V total = V(1);
      for (int64_t l = 0; l < all; ++l) total *= product[l];
      *out = static_cast<T>(total);
    });
  }
};

// dx (+)= dy times the product of the other factors: those after it in its lane (later, as large as x), those before it
// and, for inner = 1, those of the other lanes (earlier [outer, lanes]). Both are scratch.
template <class T> struct ProductBackward {
  using V = Accumulator<T>;
  const T* x;
  const T* dy;
  T* dx;
  V* later;
  V* earlier;
  ProductWalk walk;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t outer = row / walk.strips(), first = walk.first_lane(row), lanes = walk.lanes();
    const int64_t steps = walk.steps(), begin = outer * walk.n * walk.inner + first;
    const T* in = x + begin;
    T* out = dx + begin;
    V *after = later + begin, *before = earlier + outer * lanes + first;
    for (int64_t k = steps - 1; k >= 0; --k) {
      V* own = after + k * lanes;
      const V* next = own + lanes;
      const T* next_x = in + (k + 1) * lanes;
      const int64_t width = walk.width(k, first), followed = k + 1 < steps ? walk.width(k + 1, first) : 0;
      if (followed < width) team.each(width, [=](int64_t l) { own[l] = V(1); });
      team.each(followed, [=](int64_t l) { own[l] = next[l] * V(next_x[l]); });
    }
    const int64_t all = steps == 0 ? 0 : walk.width(0, first);
    if (walk.inner > 1) {
      const T* g = dy + outer * walk.inner + first;
      team.each(all, [=](int64_t l) { before[l] = V(g[l]); });
    } else {
      const V upstream = V(dy[outer]);
      team.sync();
      team.once([=] {  // dy times the products of the other lanes
        V product = upstream;
        for (int64_t l = 0; l < all; ++l) {
          before[l] = product;
          product *= after[l] * V(in[l]);
        }
        product = V(1);
        for (int64_t l = all - 1; l >= 0; --l) {
          before[l] *= product;
          product *= after[l] * V(in[l]);
        }
      });
      team.sync();
    }
    const ProductWalk path = walk;
    branch(accumulate, [=](auto add) {
      for (int64_t k = 0; k < steps; ++k) {
        const T* line = in + k * lanes;
        const V* rest = after + k * lanes;
        T* place = out + k * lanes;
        team.each(path.width(k, first), [=](int64_t l) {
          const V product = before[l];
          store(place[l], product * rest[l], add);
          before[l] = product * V(line[l]);
        });
      }
    });
  }
};

}  // namespace moxie
