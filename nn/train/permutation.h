// SPDX-License-Identifier: Apache-2.0
// Random order without state: the place of one element is computed, nothing is shuffled or stored.
#pragma once
#include <cstdint>

#include "core/philox.h"

namespace moxie::train {

// A random permutation of [0, size) that `key` names: a Feistel network over the next power of four with Philox as its
// round function, walked until it lands below `size` (fewer than four times on average).
class Permutation final {
 public:
  // Throws std::invalid_argument unless 1 <= size <= 2^62.
  Permutation(RandomKey key, int64_t size);
  // Where element `index` of [0, size) goes; all images differ.
  int64_t operator()(int64_t index) const;

 private:
  RandomKey key_;
  uint64_t size_;
  uint32_t half_bits_;
};

// A number in [0, bound), uniform to within bound / 2^64.
int64_t random_below(RandomKey key, uint64_t element, int64_t bound);

}  // namespace moxie::train
