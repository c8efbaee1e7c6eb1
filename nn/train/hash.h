// SPDX-License-Identifier: Apache-2.0
// A 64-bit hash that finds damaged bytes and names a text; no protection against someone who wants a collision.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace moxie::train {

// The hash of `bytes` bytes, the same on every machine. Any change within one 8-byte word changes it for certain.
uint64_t hash_bytes(const void* data, uint64_t bytes, uint64_t seed = 0);
inline uint64_t hash_text(std::string_view text, uint64_t seed = 0) {
  return hash_bytes(text.data(), text.size(), seed);
}

// 16 hexadecimal digits.
std::string hex(uint64_t value);

}  // namespace moxie::train
