// SPDX-License-Identifier: Apache-2.0
// Moving rows between tokens and slots. Every kernel gathers: no two members write to one place, nothing is atomic.
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie::moe {

// y[t] (+)= sum over j of w[t, j] rows[slot[t, j]]; w null: all 1. Order of addition: j = 0, 1, .. Rounded once to
// bf16.
template <class T> struct Combine {
  using V = Accumulator<T>;
  const T* rows;
  const V* weights;
  const int32_t* slot;
  T* y;
  int64_t cols, top_k;
  bool accumulate;

  static constexpr int64_t most = 8;  // rows added up in one pass over y
  template <int64_t count> struct Terms {
    const T* row[count];
    V weight[count];
    MOXIE_FN V sum(int64_t i) const {
      V total = weight[0] * V(row[0][i]);
      for (int64_t j = 1; j < count; ++j) total += weight[j] * V(row[j][i]);
      return total;
    }
  };

  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    if (sizeof(T) < sizeof(V) && top_k > most)
      in_pieces(team, token);
    else
      add_rows(team, token, 0, cols, y + token * cols, accumulate);
  }

 private:
  MOXIE_FN const T* row(int64_t assignment) const { return rows + slot[assignment] * cols; }
  MOXIE_FN V weight(int64_t assignment) const { return weights == nullptr ? V(1) : weights[assignment]; }

  // out[i] (+)= the sum's columns begin + i, i in [0, n)
  template <class Team, class Out>
  MOXIE_FN void add_rows(Team team, int64_t token, int64_t begin, int64_t n, Out* out, bool adds) const {
    for (int64_t first = 0; first < top_k; first += most) {
      switch (top_k - first) {
        case 1: pass<1>(team, token, first, begin, n, out, adds); break;
        case 2: pass<2>(team, token, first, begin, n, out, adds); break;
        case 3: pass<3>(team, token, first, begin, n, out, adds); break;
        case 4: pass<4>(team, token, first, begin, n, out, adds); break;
        case 5: pass<5>(team, token, first, begin, n, out, adds); break;
        case 6: pass<6>(team, token, first, begin, n, out, adds); break;
        case 7: pass<7>(team, token, first, begin, n, out, adds); break;
        default: pass<most>(team, token, first, begin, n, out, adds);
      }
    }
  }

  template <int64_t count, class Team, class Out>
  MOXIE_FN void pass(Team team, int64_t token, int64_t first, int64_t begin, int64_t n, Out* out, bool adds) const {
    Terms<count> terms;
    for (int64_t j = 0; j < count; ++j) {
      terms.row[j] = row(token * top_k + first + j) + begin;
      terms.weight[j] = weight(token * top_k + first + j);
    }
    branch(adds || first > 0,
           [=](auto add) { store_each(team, n, out, add, [=](int64_t i) { return terms.sum(i); }); });
  }

  // For bf16, which several passes over y would round several times: they go over a piece of sums in V instead, of
  // which a member meets the same elements in each pass.
  template <class Team> MOXIE_FN void in_pieces(Team team, int64_t token) const {
    constexpr int64_t piece = 256;
    V sums[piece] = {};
    V* total = sums;
    for (int64_t begin = 0; begin < cols; begin += piece) {
      const int64_t n = cols - begin < piece ? cols - begin : piece;
      T* out = y + token * cols + begin;
      if (accumulate) team.each(n, [=](int64_t i) { total[i] = V(out[i]); });
      add_rows(team, token, begin, n, total, accumulate);
      team.each(n, [=](int64_t i) { out[i] = static_cast<T>(total[i]); });
    }
  }
};

// Of token t and each of its assignments j: drows[slot] = w[t, j] dy[t] and dw[t, j] = dy[t] . rows[slot].
template <class T> struct CombineBackward {
  const T* rows;
  const Accumulator<T>* weights;
  const int32_t* slot;
  const T* dy;
  T* drows;                  // null: not wanted
  Accumulator<T>* dweights;  // null: not wanted
  int64_t cols, top_k;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t token) const {
    using V = Accumulator<T>;
    const T* g = dy + token * cols;
    for (int64_t j = 0; j < top_k; ++j) {
      const int64_t assignment = token * top_k + j, place = slot[assignment] * cols;
      if (dweights != nullptr) {
        const T* in = rows + place;
        V* out = dweights + assignment;
        const V dot = team.sum(cols, [=](int64_t i) { return V(g[i]) * V(in[i]); });
        team.once([=] { *out = dot; });
      }
      if (drows != nullptr) {
        T* out = drows + place;
        const V w = weights[assignment];
        store_each(team, cols, out, false, [=](int64_t i) { return w * V(g[i]); });
      }
    }
  }
};

}  // namespace moxie::moe
