// SPDX-License-Identifier: Apache-2.0
// core/dtype.h: bf16 rounding and the properties of element types.
#include "core/dtype.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "core/philox.h"

using namespace moxie;

namespace {

uint16_t bf16_bits(float value) { return bf16(value).bits; }
float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

bf16 bf16_of(uint16_t bits) {
  bf16 value;
  value.bits = bits;
  return value;
}

}  // namespace

TEST_CASE("bf16: all 65536 values survive a round trip through float") {
  int64_t changed = 0;
  for (uint32_t bits = 0; bits <= 0xFFFFu; ++bits) {
    const float value = bf16_of(static_cast<uint16_t>(bits));
    const uint16_t back = bf16_bits(value);
    if (std::isnan(value)) {
      changed += back != (bits | 0x40u);  // NaN comes back quiet, with its sign and payload
    } else {
      changed += back != bits;
    }
  }
  CHECK(changed == 0);
}

TEST_CASE("bf16: rounds to nearest, ties to even") {
  CHECK(bf16_bits(1.0f) == 0x3F80);
  CHECK(bf16_bits(float_of(0x3F808000u)) == 0x3F80);  // half way between 0x3F80 and 0x3F81: the even one
  CHECK(bf16_bits(float_of(0x3F818000u)) == 0x3F82);
  CHECK(bf16_bits(float_of(0x3F807FFFu)) == 0x3F80);
  CHECK(bf16_bits(float_of(0x3F808001u)) == 0x3F81);
  CHECK(bf16_bits(float_of(0xBF808000u)) == 0xBF80);
  CHECK(bf16_bits(float_of(0xBF818000u)) == 0xBF82);
  CHECK(bf16_bits(float_of(0x3FFFFFFFu)) == 0x4000);  // the carry reaches the exponent
}

TEST_CASE("bf16: rounding picks the nearest of the neighbours") {
  int64_t wrong = 0;
  for (uint64_t element = 0; element < 100000; ++element) {
    const uint32_t bits = random_bits(RandomKey{.seed = 1}, element);
    const float value = float_of(bits);
    if (!std::isfinite(value) || (bits & 0x7F800000u) == 0x7F000000u) continue;  // the top rounds to inf
    const double below = static_cast<double>(float_of(bits & 0xFFFF0000u));
    const double above = static_cast<double>(float_of((bits & 0xFFFF0000u) + 0x10000u));
    const double error = std::abs(static_cast<double>(static_cast<float>(bf16(value))) - static_cast<double>(value));
    const double nearest =
        std::min(std::abs(below - static_cast<double>(value)), std::abs(above - static_cast<double>(value)));
    wrong += error != nearest;
  }
  CHECK(wrong == 0);
}

TEST_CASE("bf16: infinities, overflow, zeros, subnormals and NaN") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(bf16_bits(infinity) == 0x7F80);
  CHECK(bf16_bits(-infinity) == 0xFF80);
  CHECK(bf16_bits(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(bf16_bits(float_of(0x7F7F7FFFu)) == 0x7F7F);  // the largest that does not overflow
  CHECK(bf16_bits(float_of(0x7F7F8000u)) == 0x7F80);
  CHECK(bf16_bits(0.0f) == 0x0000);
  CHECK(bf16_bits(-0.0f) == 0x8000);
  CHECK(bf16_bits(float_of(0x00000001u)) == 0x0000);
  CHECK(bf16_bits(float_of(0x00008000u)) == 0x0000);
  CHECK(bf16_bits(float_of(0x00008001u)) == 0x0001);
  CHECK(bf16_bits(float_of(0x007FFFFFu)) == 0x0080);
  CHECK(bf16_bits(std::numeric_limits<float>::quiet_NaN()) == 0x7FC0);
  // payloads that live in the dropped half must not turn into inf, nor overflow into another sign
  CHECK(std::isnan(static_cast<float>(bf16(float_of(0x7F800001u)))));
  CHECK(std::isnan(static_cast<float>(bf16(float_of(0xFF800001u)))));
  CHECK(std::isnan(static_cast<float>(bf16(float_of(0x7FFFFFFFu)))));
  CHECK(bf16_bits(float_of(0xFFFFFFFFu)) == 0xFFFF);
}

TEST_CASE("Dtype: sizes, names and properties") {
  struct Row {
    Dtype dtype;
    int64_t size;
    const char* name;
    bool is_float;
    Dtype statistics;
  };
  for (const Row& row : {Row{Dtype::f64, 8, "f64", true, Dtype::f64}, Row{Dtype::f32, 4, "f32", true, Dtype::f32},
                         Row{Dtype::bf16, 2, "bf16", true, Dtype::f32}, Row{Dtype::i32, 4, "i32", false, Dtype::f32},
                         Row{Dtype::u8, 1, "u8", false, Dtype::f32}}) {
    CHECK(size_of(row.dtype) == row.size);
    CHECK(std::string(name_of(row.dtype)) == row.name);
    CHECK(is_float(row.dtype) == row.is_float);
    CHECK(statistics_dtype(row.dtype) == row.statistics);
  }
  CHECK(dtype_of<double> == Dtype::f64);
  CHECK(dtype_of<const float> == Dtype::f32);
  CHECK(dtype_of<bf16> == Dtype::bf16);
  CHECK(dtype_of<int32_t> == Dtype::i32);
  CHECK(dtype_of<uint8_t> == Dtype::u8);
  static_assert(sizeof(bf16) == 2 && std::is_trivially_copyable_v<bf16>);
  static_assert(std::is_same_v<Accumulator<bf16>, float> && std::is_same_v<Accumulator<double>, double>);
}
