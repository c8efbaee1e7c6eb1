// SPDX-License-Identifier: Apache-2.0
// Element types. Reachable from CUDA sources: light headers only.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/macros.h"

namespace moxie {

enum class Dtype : uint8_t { f64, f32, bf16, i32, u8 };

// The upper half of an f32. Arithmetic happens in float; storing rounds to nearest, ties to even.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  MOXIE_FN bf16(float value) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    const uint32_t quiet_nan = (u >> 16) | 0x40u;
    bits = static_cast<uint16_t>((u & 0x7FFFFFFFu) > 0x7F800000u ? quiet_nan : rounded);
#endif
  }
  MOXIE_FN operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// The type in which a reduction over T accumulates, and in which kernels compute.
template <class T> struct AccumulatorOf { using type = T; };
template <> struct AccumulatorOf<bf16> { using type = float; };
template <class T> using Accumulator = typename AccumulatorOf<T>::type;

// to = value, rounded. gcc makes vectors of this in any loop, of a whole bf16 that is assigned only in some.
template <class T, class V> MOXIE_FN void assign(T& to, V value) { to = static_cast<T>(value); }
template <class V> MOXIE_FN void assign(bf16& to, V value) { to.bits = bf16(static_cast<float>(value)).bits; }

template <class T> struct DtypeOf;
template <> struct DtypeOf<double> { static constexpr Dtype value = Dtype::f64; };
template <> struct DtypeOf<float> { static constexpr Dtype value = Dtype::f32; };
template <> struct DtypeOf<bf16> { static constexpr Dtype value = Dtype::bf16; };
template <> struct DtypeOf<int32_t> { static constexpr Dtype value = Dtype::i32; };
template <> struct DtypeOf<uint8_t> { static constexpr Dtype value = Dtype::u8; };
template <class T> inline constexpr Dtype dtype_of = DtypeOf<std::remove_cv_t<T>>::value;

constexpr int64_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64: return 8;
    case Dtype::f32: return 4;
    case Dtype::bf16: return 2;
    case Dtype::i32: return 4;
    case Dtype::u8: return 1;
  }
  return 0;
}

constexpr bool is_float(Dtype dtype) { return dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::bf16; }

// The dtype in which statistics of `dtype` are kept: f64 for f64, f32 for everything else.
constexpr Dtype statistics_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

const char* name_of(Dtype dtype);

}  // namespace moxie
