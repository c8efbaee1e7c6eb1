// SPDX-License-Identifier: Apache-2.0
// Elementary functions that few kernels need, in float and double; core/math.h has the others. What has no bound here
// is the C library's, on CUDA the device's. NaN in, NaN out, but for x^0 = 1 and 1^y = 1.
#pragma once
#include "core/math.h"

namespace moxie::math {

// The smallest integer that is not below x.
MOXIE_FN float ceil(float x) { return ::ceilf(x); }
MOXIE_FN double ceil(double x) { return ::ceil(x); }

// The nearest integer, the even one of two equally near.
MOXIE_FN float round_to_even(float x) { return ::rintf(x); }
MOXIE_FN double round_to_even(double x) { return ::rint(x); }

// -1, 0 or 1 like x; 0 for NaN.
template <class T> MOXIE_FN T sign(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0); }

// exp(x) - 1 within 2 ulp, accurate near 0; exactly -1 and inf at the ends.
MOXIE_FN float expm1(float x) {
#ifdef __CUDA_ARCH__
  return ::expm1f(x);
#else
  float bounded = x < -30.0f ? -30.0f : x;
  bounded = bounded > 89.0f ? 89.0f : bounded;
  const detail::Ln2Split split = detail::split_by_ln2(bounded);
  // half of 2^count, which is out of range where the result is not
  const float half = detail::power_of_two(split.count - 1);
  return (detail::expm1_core(split.rest) * half + (half - 0.5f)) * 2.0f;
#endif
}
MOXIE_FN double expm1(double x) { return ::expm1(x); }

// x^y as the C library defines it: 1 for y = 0 and for x = 1, NaN for x < 0 and y not an integer.
MOXIE_FN float pow(float x, float y) { return ::powf(x, y); }
MOXIE_FN double pow(double x, double y) { return ::pow(x, y); }

// Angles are in radians.
MOXIE_FN float sin(float x) { return ::sinf(x); }
MOXIE_FN double sin(double x) { return ::sin(x); }
MOXIE_FN float cos(float x) { return ::cosf(x); }
MOXIE_FN double cos(double x) { return ::cos(x); }
MOXIE_FN float tan(float x) { return ::tanf(x); }
MOXIE_FN double tan(double x) { return ::tan(x); }
MOXIE_FN float asin(float x) { return ::asinf(x); }
MOXIE_FN double asin(double x) { return ::asin(x); }
MOXIE_FN float acos(float x) { return ::acosf(x); }
MOXIE_FN double acos(double x) { return ::acos(x); }
MOXIE_FN float atan(float x) { return ::atanf(x); }
MOXIE_FN double atan(double x) { return ::atan(x); }

// Hyperbolic functions and their inverses.
MOXIE_FN float sinh(float x) { return ::sinhf(x); }
MOXIE_FN double sinh(double x) { return ::sinh(x); }
MOXIE_FN float cosh(float x) { return ::coshf(x); }
MOXIE_FN double cosh(double x) { return ::cosh(x); }
MOXIE_FN float asinh(float x) { return ::asinhf(x); }
MOXIE_FN double asinh(double x) { return ::asinh(x); }
MOXIE_FN float acosh(float x) { return ::acoshf(x); }
MOXIE_FN double acosh(double x) { return ::acosh(x); }
MOXIE_FN float atanh(float x) { return ::atanhf(x); }
MOXIE_FN double atanh(double x) { return ::atanh(x); }

}  // namespace moxie::math
