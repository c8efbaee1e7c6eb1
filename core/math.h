// SPDX-License-Identifier: Apache-2.0
// Elementary functions for kernels, in float and double. The float versions are branch-free, so that a loop under
// `omp simd` becomes vector code; their bounds are in units in the last place, measured by tests/core/math_test.cpp.
// On CUDA they are the device's own functions; the double versions are libm's. NaN in, NaN out, in all of them.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/macros.h"

namespace moxie::math {

// The larger; `b` where either is NaN.
template <class T> MOXIE_FN T max(T a, T b) { return a > b ? a : b; }
// The smaller; `b` where either is NaN.
template <class T> MOXIE_FN T min(T a, T b) { return a < b ? a : b; }

// |x|
MOXIE_FN float abs(float x) { return ::fabsf(x); }
MOXIE_FN double abs(double x) { return ::fabs(x); }

// The square root, correctly rounded (CUDA: within 1 ulp in float); NaN below zero.
MOXIE_FN float sqrt(float x) { return ::sqrtf(x); }
MOXIE_FN double sqrt(double x) { return ::sqrt(x); }

// The largest integer that is not above x.
MOXIE_FN float floor(float x) { return ::floorf(x); }
MOXIE_FN double floor(double x) { return ::floor(x); }

namespace detail {

// x = count * ln 2 + rest with |rest| <= ln 2 / 2, for |x| below 2^21.
struct Ln2Split {
  int32_t count;
  float rest;
};

MOXIE_FN Ln2Split split_by_ln2(float x) {
  constexpr float round_bias = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  const float biased = x * 1.44269504f + round_bias;
  const float count = biased - round_bias;
  // ln 2 in two parts, the first short enough for its product to be exact
  const float rest = (x - count * 0.693359375f) - count * -2.12194440e-4f;
  return {std::bit_cast<int32_t>(biased) - std::bit_cast<int32_t>(round_bias), rest};
}

// 2^n for n in [-126, 127].
MOXIE_FN float power_of_two(int32_t n) { return std::bit_cast<float>((static_cast<uint32_t>(n) + 127u) << 23); }

// exp(x) for x in [-104, 40], gradually to zero. Kernels choose the value beyond by a selection afterwards: gcc turns a
// clamp by a constant before it into several.
MOXIE_FN float exp_bounded(float x) {
  // The polynomial gives 2^-64 exp(r), so that the other factor, 2^(count + 64), is a normal number where the result
  // isn't. The bias leaves that factor's exponent in the low bits, and the shift drops all others.
  constexpr float exponent_bias = 12582912.0f + (127.0f + 64.0f), small = 5.421010862e-20f;
  const float biased = x * 1.44269504f + exponent_bias;
  const float count = biased - exponent_bias;
  const float r = (x - count * 0.693359375f) - count * -2.12194440e-4f;
  float p = 1.381874201e-3f * small;
  p = p * r + 8.368721232e-3f * small;
  p = p * r + 4.166829214e-2f * small;
  p = p * r + 1.666652113e-1f * small;
  p = p * r + 4.999999404e-1f * small;
  p = p * r + small;
  p = p * r + small;
  return p * std::bit_cast<float>(std::bit_cast<uint32_t>(biased) << 23);
}

// log(1 + e) for e in [0, 1], accurate relative to itself.
MOXIE_FN float log1p_of_fraction(float e) {
  const float e2 = e * e, e4 = e2 * e2;
  const float high = (5.365422461e-3f * e + -3.006830066e-2f) * e2 + (7.920882851e-2f * e + -1.375418752e-1f);
  const float low = (1.915384829e-1f * e + -2.485721707e-1f) * e2 + (3.332132995e-1f * e + -4.999964833e-1f);
  return (high * e4 + low) * e2 + e;
}

// exp(r) - 1 for |r| <= ln 2 / 2.
MOXIE_FN float expm1_core(float r) {
  float p = 1.994998893e-4f;
  p = p * r + 1.393307000e-3f;
  p = p * r + 8.333201520e-3f;
  p = p * r + 4.166648537e-2f;
  p = p * r + 1.666666716e-1f;
  p = p * r + 0.5f;
  return p * (r * r) + r;
}

// exp(x) - 1 for x <= 0, accurate relative to itself; exactly -1 far below zero.
MOXIE_FN float expm1_nonpositive(float x) {
  x = x < -30.0f ? -30.0f : x;
  const Ln2Split split = split_by_ln2(x);
  const float scale = power_of_two(split.count);
  return expm1_core(split.rest) * scale + (scale - 1.0f);
}

// log(1 + f) + e * ln 2 for f in [-1/3, 1/3].
MOXIE_FN float log_core(float f, float e) {
  float p = -1.318947822e-1f;
  p = p * f + 1.396047026e-1f;
  p = p * f + -1.211611256e-1f;
  p = p * f + 1.401194185e-1f;
  p = p * f + -1.668534577e-1f;
  p = p * f + 2.000993192e-1f;
  p = p * f + -2.499969304e-1f;
  p = p * f + 3.333322704e-1f;
  const float tail = (p * f - 0.5f) * (f * f) + e * -2.12194440e-4f;
  return (tail + f) + e * 0.693359375f;
}

inline constexpr uint32_t two_thirds_bits = 0x3F2AAAABu;  // the smallest significand that log_core gets

// log(1 + x) for finite x > -1.
MOXIE_FN float log1p_finite(float x) {
  const uint32_t above = std::bit_cast<uint32_t>(1.0f + x) - two_thirds_bits;
  const int32_t e = static_cast<int32_t>(above) >> 23;
  // f = (1 + x) / 2^e - 1 without rounding 1 + x first; the factor 4 keeps the scale a normal number up to e = 128
  const float scale = power_of_two(2 - e);
  const float f = (x * scale) * 0.25f + (scale * 0.25f - 1.0f);
  return log_core(f, static_cast<float>(e));
}

}  // namespace detail

// e^x within 2 ulp; exp(-inf) = 0 and exp(inf) = inf exactly.
MOXIE_FN float exp(float x) {
#ifdef __CUDA_ARCH__
  return ::expf(x);
#else
  // x = 2 half ln 2 + r with |r| <= ln 2, since 2^(2 half) may be out of range where the result is not, and 2^half
  // isn't
  constexpr float round_bias = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  const float biased = x * (0.5f * 1.44269504f) + round_bias;
  const float half = biased - round_bias;
  const float r = (x - half * (2.0f * 0.693359375f)) - half * (2.0f * -2.12194440e-4f);
  float p = 1.962209062e-4f;
  p = p * r + 1.410599449e-3f;
  p = p * r + 8.336041123e-3f;
  p = p * r + 4.166118056e-2f;
  p = p * r + 1.666661501e-1f;
  p = p * r + 5.000003576e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float scale = std::bit_cast<float>((std::bit_cast<uint32_t>(biased) << 23) + (127u << 23));
  float y = (p * scale) * scale;
  y = x > 89.0f ? std::numeric_limits<float>::infinity() : y;
  y = biased < round_bias - 75.0f ? 0.0f
                                  : y;  // asks for `biased`, since two questions about x cost gcc 12 five selections
  return y;
#endif
}
MOXIE_FN double exp(double x) { return ::exp(x); }

// e^x within 2 ulp for x <= 0, and where rounding lifted x a little above; faster than exp. exp_nonpositive(-inf) = 0.
MOXIE_FN float exp_nonpositive(float x) {
#ifdef __CUDA_ARCH__
  return ::expf(x);
#else
  const float y = detail::exp_bounded(x);
  return x < -104.0f ? 0.0f : y;
#endif
}
MOXIE_FN double exp_nonpositive(double x) { return ::exp(x); }

// The natural logarithm within 2 ulp; log(0) = -inf, NaN below zero, log(inf) = inf.
MOXIE_FN float log(float x) {
#ifdef __CUDA_ARCH__
  return ::logf(x);
#else
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const bool tiny = x < std::numeric_limits<float>::min();
  const uint32_t bits = std::bit_cast<uint32_t>(tiny ? x * 8388608.0f : x);
  const int32_t e = static_cast<int32_t>(bits - detail::two_thirds_bits) >> 23;
  const float m = std::bit_cast<float>(bits - (static_cast<uint32_t>(e) << 23));
  float y = detail::log_core(m - 1.0f, static_cast<float>(e) - (tiny ? 23.0f : 0.0f));
  y = x < infinity ? y : x;  // inf and NaN
  y = x > 0.0f ? y : x == 0.0f ? -infinity : std::numeric_limits<float>::quiet_NaN();
  return y;
#endif
}
MOXIE_FN double log(double x) { return ::log(x); }

// log(1 + x) within 3 ulp, accurate near 0; log1p(-1) = -inf, NaN below.
MOXIE_FN float log1p(float x) {
#ifdef __CUDA_ARCH__
  return ::log1pf(x);
#else
  constexpr float infinity = std::numeric_limits<float>::infinity();
  float y = detail::log1p_finite(x);
  y = x < infinity ? y : x;  // inf and NaN
  y = x > -1.0f ? y : x == -1.0f ? -infinity : std::numeric_limits<float>::quiet_NaN();
  return y;
#endif
}
MOXIE_FN double log1p(double x) { return ::log1p(x); }

// tanh within 4 ulp, accurate near 0, odd; exactly +-1 at the ends.
MOXIE_FN float tanh(float x) {
#ifdef __CUDA_ARCH__
  return ::tanhf(x);
#else
  const float t = detail::expm1_nonpositive(-2.0f * abs(x));
  return ::copysignf(t / (2.0f + t), x);
#endif
}
MOXIE_FN double tanh(double x) { return ::tanh(x); }

// The error function within 4 ulp, accurate near 0, odd; exactly +-1 at the ends.
MOXIE_FN float erf(float x) {
#ifdef __CUDA_ARCH__
  return ::erff(x);
#else
  // erf(a) = 1 - exp(-a R(a)) with R(a) = -log(erfc(a)) / a, which is smooth; beyond 4 the result is 1
  float a = abs(x);
  a = a > 4.0f ? 4.0f : a;
  float p = 3.637532927e-6f;
  p = p * a + 9.448473975e-6f;
  p = p * a + -2.751486609e-4f;
  p = p * a + 1.071086619e-3f;
  p = p * a + 3.706909192e-4f;
  p = p * a + -1.940054074e-2f;
  p = p * a + 1.028321758e-1f;
  p = p * a + 6.366150379e-1f;
  p = p * a + 1.128379226f;
  return ::copysignf(detail::expm1_nonpositive(-(p * a)), x);
#endif
}
MOXIE_FN double erf(double x) { return ::erf(x); }

// 1 / (1 + exp(-x)) within 4 ulp, accurate far below zero too; exactly 0 and 1 at the ends. On CUDA by the fast
// exponential: within 4 ulp for |x| < 4, 1e-5 at -88.
MOXIE_FN float sigmoid(float x) {
#ifdef __CUDA_ARCH__
  return __fdividef(1.0f, 1.0f + __expf(-x));
#else
  const float e = exp_nonpositive(-abs(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
#endif
}
MOXIE_FN double sigmoid(double x) {
  const double e = exp(-abs(x));
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

// log(1 + exp(x)) within 4 ulp, without overflow: x far above zero, exp(x) far below.
MOXIE_FN float softplus(float x) {
#ifdef __CUDA_ARCH__
  return max(x, 0.0f) + ::log1pf(::expf(-abs(x)));
#else
  return max(x, 0.0f) + detail::log1p_of_fraction(exp_nonpositive(-abs(x)));
#endif
}
MOXIE_FN double softplus(double x) { return max(x, 0.0) + ::log1p(::exp(-abs(x))); }

// The standard normal distribution at x: its density and the probability of a value below x.
struct Normal {
  float density, probability;
};
struct NormalDouble {
  double density, probability;
};

// Both within 3e-7 of themselves for |x| <= 2, and 1e-5 down to the smallest float, on a GPU to the smallest normal
// one, below which they are 0: no cancellation below zero.
MOXIE_FN Normal normal(float x) {
  constexpr float inverse_sqrt_2_pi = 0.398942280f;
  constexpr float far = 14.42f;  // beyond it both are below the smallest float
  // P(-t) = exp(-t^2 / 2) R(t), with the quotient of two polynomials for R
#ifdef __CUDA_ARCH__
  float t;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(t) : "f"(abs(x)), "f"(far));
#else
  const float t = abs(x);
#endif
  float p = 4.116281867e-3f;
  p = p * t + 4.063306004e-2f;
  p = p * t + 1.832346767e-1f;
  p = p * t + 4.382943809e-1f;
  p = p * t + 5.000000000e-1f;
  float q = 1.031786855e-2f;
  q = q * t + 1.018584296e-1f;
  q = q * t + 4.694694281e-1f;
  q = q * t + 1.202501297f;
  q = q * t + 1.674473763f;
  q = q * t + 1.0f;
#ifdef __CUDA_ARCH__
  // One instruction each, where the functions with these names also take care of numbers that aren't normal.
  float e, inverse;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"((-0.5f * 1.44269504f) * (t * t)));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(q));
  const float tail = e * (p * inverse);
  const float density = inverse_sqrt_2_pi * e;
#else
  const float e = detail::exp_bounded(-0.5f * (x * x));
  const float tail = t > far ? 0.0f : e * (p / q);
  const float density = t > far ? 0.0f : inverse_sqrt_2_pi * e;
#endif
  return {density, x < 0.0f ? tail : 1.0f - tail};
}
MOXIE_FN NormalDouble normal(double x) {
  return {0.39894228040143267794 * ::exp(-0.5 * x * x), 0.5 * ::erfc(-0.70710678118654752440 * x)};
}

}  // namespace moxie::math
