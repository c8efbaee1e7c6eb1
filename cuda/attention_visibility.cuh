// SPDX-License-Identifier: Apache-2.0
// Which query sees which key, on the device: the CPU's Visibility with 32-bit numbers, and the same for whole blocks.
#pragma once
#include <cstdint>

#include "core/attention.h"
#include "core/macros.h"

namespace moxie::cuda {

// Lengths stay below this, so that 32 bits hold every sum of two positions.
inline constexpr int64_t attention_length_limit = int64_t{1} << 29;

struct Visibility {
  int q_length;
  int k_length;
  int offset;  // with `causal`, query t is at key t + offset
  int window;  // with `causal`, how many keys up to its own place a query sees; 0: all
  bool causal;

  static MOXIE_FN Visibility of(const Attention& p) {
    return {static_cast<int>(p.q_length), static_cast<int>(p.k_length), static_cast<int>(p.k_length - p.q_length),
            static_cast<int>(p.window < attention_length_limit ? p.window : 0), p.causal};
  }

  // Query t sees the keys from first_key(t) up to, without, end_key(t).
  MOXIE_FN int first_key(int query) const {
    const int first = query + offset + 1 - window;
    return causal && window > 0 && first > 0 ? first : 0;
  }
  MOXIE_FN int end_key(int query) const {
    const int end = query + offset + 1;
    return !causal || end > k_length ? k_length : end > 0 ? end : 0;
  }
  // Key s is seen by the queries from first_query(s) up to, without, end_query(s).
  MOXIE_FN int first_query(int key) const {
    const int first = key - offset;
    return causal && first > 0 ? first : 0;
  }
  MOXIE_FN int end_query(int key) const {
    const int end = key - offset + window;
    return !causal || window == 0 || end > q_length ? q_length : end > 0 ? end : 0;
  }

  // True where the query exists, the key exists, and the one sees the other.
  MOXIE_FN bool sees(int query, int key) const {
    return query < q_length && key >= first_key(query) && key < end_key(query);
  }
  // True where each of the queries sees each of the keys.
  MOXIE_FN bool all_see(int first_query, int queries, int first_key_, int keys) const {
    const int last_query = first_query + queries - 1;
    return last_query < q_length && first_key_ >= first_key(last_query) && first_key_ + keys <= end_key(first_query);
  }
};

}  // namespace moxie::cuda
