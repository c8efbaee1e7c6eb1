// SPDX-License-Identifier: Apache-2.0
#include "nn/train/permutation.h"

#include <algorithm>
#include <bit>

#include "core/check.h"

namespace moxie::train {
namespace {

constexpr uint64_t rounds = 8;

}  // namespace

Permutation::Permutation(RandomKey key, int64_t size) : key_(key), size_(static_cast<uint64_t>(size)) {
  check(size >= 1 && size <= int64_t{1} << 62, "Permutation: size must be between 1 and 2^62, got {}", size);
  half_bits_ = std::max<uint32_t>((static_cast<uint32_t>(std::bit_width(size_ - 1)) + 1) / 2, 1);
}

int64_t Permutation::operator()(int64_t index) const {
  check(index >= 0 && static_cast<uint64_t>(index) < size_, "Permutation: index {} is not below {}", index, size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t x = static_cast<uint64_t>(index);
  do {
    uint64_t left = x >> half_bits_, right = x & mask;
    for (uint64_t round = 0; round < rounds; ++round) {
      const uint64_t mixed = left ^ (random_block(key_, round << 32 | right).word[0] & mask);
      left = right;
      right = mixed;
    }
    x = left << half_bits_ | right;
  } while (x >= size_);
  return static_cast<int64_t>(x);
}

int64_t random_below(RandomKey key, uint64_t element, int64_t bound) {
  check(bound >= 1, "random_below: the bound must be at least 1, got {}", bound);
  const Philox4 words = random_block(key, element);
  // The upper 64 bits of the 128-bit product of a random word and the bound.
  const uint64_t b = static_cast<uint64_t>(bound), b_low = b & 0xFFFFFFFFu, b_high = b >> 32;
  const uint64_t r_low = words.word[0], r_high = words.word[1];
  const uint64_t middle = r_high * b_low + (r_low * b_low >> 32);
  const uint64_t carry = (middle & 0xFFFFFFFFu) + r_low * b_high;
  return static_cast<int64_t>(r_high * b_high + (middle >> 32) + (carry >> 32));
}

}  // namespace moxie::train
