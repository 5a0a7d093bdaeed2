// Vectors of eight floats: AVX2 with FMA and F16C.
#pragma once
#include <immintrin.h>

#include "lib/types.h"

constexpr int kLanes = 8;
typedef __m256 Vec;
typedef int32_t VecInt __attribute__((vector_size(32)));
typedef int16_t VecShort __attribute__((vector_size(32)));
typedef uint16_t VecUnsigned __attribute__((vector_size(32)));
typedef uint16_t Halves __attribute__((vector_size(16)));

DEVICE Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
/** c + a0 b0 + a1 b1 of each pair of int16. The order of sums is kept: else g++ makes all products first, and has no registers for them. */
DEVICE VecInt add_products(VecInt a, VecInt b, VecInt c) {
  VecInt sum = c + (VecInt)_mm256_madd_epi16((__m256i)a, (__m256i)b);
  __asm__("" : "+x"(sum));
  return sum;
}
typedef VecShort ByteSums;
typedef int16_t ByteSum;
/** c + a0 b0 + a1 b1 of each pair of bytes, a without a sign. The order of sums is kept, as above. */
DEVICE ByteSums add_bytes(VecInt a, VecInt b, ByteSums c) {
  ByteSums sum = c + (VecShort)_mm256_maddubs_epi16((__m256i)a, (__m256i)b);
  __asm__("" : "+x"(sum));
  return sum;
}
/** The sums of each word. */
DEVICE VecInt widened(ByteSums sums) { return (VecInt)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(1)); }
DEVICE Vec to_floats(VecInt x) { return _mm256_cvtepi32_ps((__m256i)x); }
DEVICE Vec even(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
DEVICE Vec odd(Vec a, Vec b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }

DEVICE Vec load(const bf16* p) {
  const __m256i halves = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(halves, 16));
}
DEVICE Vec load(const fp16* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }

DEVICE Vec load(const int8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
DEVICE Vec load(const fp8* p) {
  const __m128i spread = _mm_slli_epi16(_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i*)p)), 7);  // the sign twice
  return _mm256_cvtph_ps(_mm_and_si128(spread, _mm_set1_epi16((short)0xbfff)));
}
DEVICE Vec splat(fp16 x) { return _mm256_cvtph_ps(_mm_set1_epi16((short)x.bits)); }
/** Elements of a and b in turn: of their lower halves, of their upper ones. */
DEVICE Vec zip_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
DEVICE Vec zip_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }

/** Elements 0 1, 4 5, ... of a and b, and 2 3, 6 7, .... */
DEVICE VecInt even_twos(VecInt a, VecInt b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13); }
DEVICE VecInt odd_twos(VecInt a, VecInt b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15); }

/** words[i] := word i of 16 bytes of each of kLanes rows. */
DEVICE void load_columns(VecInt (&words)[4], const uint8_t* p, int64_t stride) {
  __m256i rows[4];
  for (int r = 0; r < 4; ++r) rows[r] = _mm256_loadu2_m128i((const __m128i*)(p + (r + 4) * stride), (const __m128i*)(p + r * stride));
  const __m256i low01 = _mm256_unpacklo_epi32(rows[0], rows[1]), low23 = _mm256_unpacklo_epi32(rows[2], rows[3]);
  const __m256i high01 = _mm256_unpackhi_epi32(rows[0], rows[1]), high23 = _mm256_unpackhi_epi32(rows[2], rows[3]);
  words[0] = (VecInt)_mm256_unpacklo_epi64(low01, low23);
  words[1] = (VecInt)_mm256_unpackhi_epi64(low01, low23);
  words[2] = (VecInt)_mm256_unpacklo_epi64(high01, high23);
  words[3] = (VecInt)_mm256_unpackhi_epi64(high01, high23);
}
/** The first number of each of kLanes rows. */
DEVICE Vec load_column(const fp16* p, int64_t stride) {
  const auto bits = [=](int row) { return ((const fp16*)((const uint8_t*)p + row * stride))->bits; };
  return _mm256_cvtph_ps((__m128i)Halves{bits(0), bits(1), bits(2), bits(3), bits(4), bits(5), bits(6), bits(7)});
}

/** The first two numbers of each of kLanes rows. */
DEVICE void load_two_columns(const fp16* p, int64_t stride, Vec& first, Vec& second) {
  const auto both = [=](int row) {
    int32_t bits;
    memcpy(&bits, (const uint8_t*)p + row * stride, sizeof bits);
    return bits;
  };
  const __m256i pairs = _mm256_set_epi32(both(7), both(6), both(5), both(4), both(3), both(2), both(1), both(0));
  const __m256i halves = _mm256_packus_epi32(_mm256_blend_epi16(pairs, _mm256_setzero_si256(), 0xaa), _mm256_srli_epi32(pairs, 16));
  const __m256i columns = _mm256_permute4x64_epi64(halves, 0xd8);
  first = _mm256_cvtph_ps(_mm256_castsi256_si128(columns));
  second = _mm256_cvtph_ps(_mm256_extracti128_si256(columns, 1));
}

/** Elements 0, 2, ... of 16 weights, then 1, 3, ...: one shift or mask each, where their own order would cost a shuffle. */
DEVICE Vec load_even(const bf16* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i*)p), 16));
}
DEVICE Vec load_odd(const bf16* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_srli_epi32(_mm256_loadu_si256((const __m256i*)p), 16), 16));
}

/** Lane sums of a, b, c and d, each ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7)). */
DEVICE __m128 sum_each(Vec a, Vec b, Vec c, Vec d) {
  const Vec sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}
typedef __m128 Sums;

/** Lane i := the lane sum of x[i], added as sum_each does. */
DEVICE Vec sum_lanes(const Vec (&x)[kLanes]) {
  const auto fours = [&](int i) { return _mm256_hadd_ps(_mm256_hadd_ps(x[i], x[i + 1]), _mm256_hadd_ps(x[i + 2], x[i + 3])); };
  const Vec low = fours(0), high = fours(4);
  return _mm256_permute2f128_ps(low, high, 0x20) + _mm256_permute2f128_ps(low, high, 0x31);
}
DEVICE float max_lane(Vec x) {
  __m128 most = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_max_ss(most, _mm_movehdup_ps(most))[0];
}
DEVICE int32_t max_lane(VecInt x) {
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1)));
}
DEVICE int32_t sum_of(VecInt x) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}
