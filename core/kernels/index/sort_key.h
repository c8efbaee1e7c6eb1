// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/dtype.h"

namespace moxie {

// An unsigned integer that orders as the numbers do, with -0 equal to 0 and NaN above everything; falling, where
// `descending`, but for NaN.
template <class V> MOXIE_FN auto sort_key(V value, bool descending) {
  using Key = std::conditional_t<sizeof(V) == 8, uint64_t, uint32_t>;
  constexpr Key sign = Key{1} << (sizeof(Key) * 8 - 1), last = ~Key{0};
  const Key bits = std::bit_cast<Key>(value + V(0));
  const Key key = (bits & sign) != 0 ? ~bits : bits | sign;
  return value != value ? last : descending ? ~key : key;
}

}  // namespace moxie
