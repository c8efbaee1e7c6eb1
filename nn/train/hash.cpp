// SPDX-License-Identifier: Apache-2.0
#include "nn/train/hash.h"

#include <fmt/core.h>

#include <bit>
#include <cstring>

namespace moxie::train {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

// Bijective in h for every word and in the word for every h, so that one changed word can't be lost.
constexpr uint64_t mix(uint64_t h, uint64_t word) {
  h = (h ^ word) * 0x9E3779B97F4A7C15u;
  return h ^ (h >> 29);
}

uint64_t load(const unsigned char* from, uint64_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, from, bytes);
  return word;
}

}  // namespace

uint64_t hash_bytes(const void* data, uint64_t bytes, uint64_t seed) {
  const unsigned char* from = static_cast<const unsigned char*>(data);
  // Four independent chains keep the multiplier busy.
  uint64_t lane[4] = {seed ^ 0x243F6A8885A308D3u, seed ^ 0x13198A2E03707344u, seed ^ 0xA4093822299F31D0u,
                      seed ^ 0x082EFA98EC4E6C89u};
  const uint64_t blocks = bytes / 32;
  for (uint64_t i = 0; i < blocks; ++i, from += 32) {
    for (uint64_t k = 0; k < 4; ++k) lane[k] = mix(lane[k], load(from + 8 * k, 8));
  }
  uint64_t rest = bytes % 32;
  for (; rest >= 8; rest -= 8, from += 8) lane[0] = mix(lane[0], load(from, 8));
  if (rest > 0) lane[1] = mix(lane[1], load(from, rest));
  uint64_t h = mix(seed, bytes);
  for (const uint64_t value : lane) h = mix(h, value);
  return mix(h, 0);
}

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

}  // namespace moxie::train
