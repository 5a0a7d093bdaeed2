// What pointwise ops call in the place of the C library's: without a branch and without a call, so that the compiler makes vectors of a loop over rows.
#pragma once
#include "lib/types.h"

/** a * b + c, rounded once where an instruction does that: a vector of it and one alone have the same bits, which is not left to the compiler. */
DEVICE float fused(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

namespace ops {

/** exp(x) within 2 ulp, or one of the smallest float: zero, infinite and NaN where it is. Limits are those of whole numbers: of floats, g++ makes
 *  paths of their own, and divides on each. */
DEVICE float expf(float x) {
  const int32_t bits = (int32_t)bits_from_float(x), size = bits & 0x7fffffff, infinity = 0x7f800000;
  const int32_t most = (int32_t)bits_from_float(104.0f);
  const float limited = float_from_bits((uint32_t)(smaller(size, most) | (bits & ~0x7fffffff)));
  const float magic = 0x1.8p23f;  // adding it rounds to an integer, kept in the low bits
  const float shifted = fused(limited, 1.44269504f, magic);
  const float n = shifted - magic;
  const float r = fused(n, -1.42860677e-6f, fused(n, -0.693145752f, limited));
  float sum = 1.0f / 5040;
  sum = fused(sum, r, 1.0f / 720);
  sum = fused(sum, r, 1.0f / 120);
  sum = fused(sum, r, 1.0f / 24);
  sum = fused(sum, r, 1.0f / 6);
  sum = fused(sum, r, 0.5f);
  sum = fused(sum, r, 1.0f);
  sum = fused(sum, r, 1.0f);
  // 2^n as two factors, since one alone may be no float.
  const int32_t power = (int32_t)(bits_from_float(shifted) - bits_from_float(magic)), half = power >> 1;
  const auto power_of_two = [](int32_t exponent) { return float_from_bits((uint32_t)(exponent + 127) << 23); };
  const float result = sum * power_of_two(half) * power_of_two(power - half);
  return float_from_bits(bits_from_float(result) | (uint32_t)((infinity - size) >> 31 & 0x7fc00000));
}

}  // namespace ops
