// Vectors of sixteen floats: AVX-512 F, BW, VL and DQ.
#pragma once
#include <immintrin.h>

#include "lib/types.h"

// GCC 12 warns of uninitialised values in its own avx512fintrin.h.
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

constexpr int kLanes = 16;
typedef __m512 Vec;
typedef int32_t VecInt __attribute__((vector_size(64)));
typedef int16_t VecShort __attribute__((vector_size(64)));
typedef uint16_t VecUnsigned __attribute__((vector_size(64)));

DEVICE Vec multiply_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
/** c + a0 b0 + a1 b1 of each pair of int16, in the order that is written, as in simd_avx2.h. */
DEVICE VecInt add_products(VecInt a, VecInt b, VecInt c) {
#if defined(__AVX512VNNI__)
  return (VecInt)_mm512_dpwssd_epi32((__m512i)c, (__m512i)a, (__m512i)b);
#else
  VecInt sum = c + (VecInt)_mm512_madd_epi16((__m512i)a, (__m512i)b);
  __asm__("" : "+v"(sum));
  return sum;
#endif
}
#if defined(__AVX512VNNI__)
typedef VecInt ByteSums;
typedef int32_t ByteSum;
/** c + a0 b0 + ... + a3 b3 of each four bytes, a without a sign. */
DEVICE ByteSums add_bytes(VecInt a, VecInt b, ByteSums c) { return (VecInt)_mm512_dpbusd_epi32((__m512i)c, (__m512i)a, (__m512i)b); }
DEVICE VecInt widened(ByteSums sums) { return sums; }
#else
typedef VecShort ByteSums;
typedef int16_t ByteSum;
/** As in simd_avx2.h. */
DEVICE ByteSums add_bytes(VecInt a, VecInt b, ByteSums c) {
  ByteSums sum = c + (VecShort)_mm512_maddubs_epi16((__m512i)a, (__m512i)b);
  __asm__("" : "+v"(sum));
  return sum;
}
DEVICE VecInt widened(ByteSums sums) { return (VecInt)_mm512_madd_epi16((__m512i)sums, _mm512_set1_epi16(1)); }
#endif
DEVICE Vec to_floats(VecInt x) { return _mm512_cvtepi32_ps((__m512i)x); }
DEVICE Vec even(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
DEVICE Vec odd(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

DEVICE Vec load(const bf16* p) {
  const __m512i halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16));
}
DEVICE Vec load(const fp16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }

DEVICE Vec load(const int8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))); }
DEVICE Vec load(const fp8* p) {
  const __m256i spread = _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p)), 7);  // the sign twice
  return _mm512_cvtph_ps(_mm256_and_si256(spread, _mm256_set1_epi16((short)0xbfff)));
}
DEVICE Vec splat(fp16 x) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)x.bits)); }
/** Elements of a and b in turn: of their lower halves, of their upper ones. */
DEVICE Vec zip_low(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
DEVICE Vec zip_high(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/** Elements 0 1, 4 5, ... of a and b, and 2 3, 6 7, .... */
DEVICE VecInt even_twos(VecInt a, VecInt b) {
  return __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
}
DEVICE VecInt odd_twos(VecInt a, VecInt b) {
  return __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
}

/** words[i] := word i of 16 bytes of each of kLanes rows. */
DEVICE void load_columns(VecInt (&words)[4], const uint8_t* p, int64_t stride) {
  const auto load = [=](int row) { return _mm_loadu_si128((const __m128i*)(p + row * stride)); };
  __m512i rows[4];
  for (int r = 0; r < 4; ++r) {
    rows[r] = _mm512_castsi128_si512(load(r));
    rows[r] = _mm512_inserti32x4(rows[r], load(r + 4), 1);
    rows[r] = _mm512_inserti32x4(rows[r], load(r + 8), 2);
    rows[r] = _mm512_inserti32x4(rows[r], load(r + 12), 3);
  }
  const __m512i low01 = _mm512_unpacklo_epi32(rows[0], rows[1]), low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
  const __m512i high01 = _mm512_unpackhi_epi32(rows[0], rows[1]), high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
  words[0] = (VecInt)_mm512_unpacklo_epi64(low01, low23);
  words[1] = (VecInt)_mm512_unpackhi_epi64(low01, low23);
  words[2] = (VecInt)_mm512_unpacklo_epi64(high01, high23);
  words[3] = (VecInt)_mm512_unpackhi_epi64(high01, high23);
}
/** The first number of each of kLanes rows: put together in the scalar units, which have nothing else to do. One Zen 5 core, a token of int4, K = 1024, and the last shift
 *  of for_pairs without its mask: 98 GFlop/s in the place of 86, from memory 93 in that of 81; 8 tokens 7 % more, 16 3 %. */
DEVICE Vec load_column(const fp16* p, int64_t stride) {
  const auto four = [=](int row) { return (long long)four_columns((const uint8_t*)p + row * stride, stride); };
  return _mm512_cvtph_ps(_mm256_set_epi64x(four(12), four(8), four(4), four(0)));
}

/** The first two numbers of each of kLanes rows. */
DEVICE void load_two_columns(const fp16* p, int64_t stride, Vec& first, Vec& second) {
  const auto two = [=](int row) {
    uint32_t bits[2];
    for (int i = 0; i < 2; ++i) memcpy(bits + i, (const uint8_t*)p + (row + i) * stride, sizeof bits[i]);
    return (long long)((uint64_t)bits[1] << 32 | bits[0]);
  };
  const __m512i pairs = _mm512_set_epi64(two(14), two(12), two(10), two(8), two(6), two(4), two(2), two(0));
  first = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
  second = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)));
}

/** Elements 0, 2, ... of 32 weights, then 1, 3, .... */
DEVICE Vec load_even(const bf16* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
DEVICE Vec load_odd(const bf16* p) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}

DEVICE __m256 fold(Vec x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); }

/** Lane sums of a, b, c and d: the upper half is added to the lower, then as in simd_avx2.h. */
DEVICE __m128 sum_each(Vec a, Vec b, Vec c, Vec d) {
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(fold(a), fold(b)), _mm256_hadd_ps(fold(c), fold(d)));
  return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}
typedef __m128 Sums;

/** Lane i := the lane sum of x[i], added as sum_each does. */
DEVICE Vec sum_lanes(const Vec (&x)[kLanes]) {
  Vec halves[8];
  for (int i = 0; i < 8; ++i) {
    const Vec a = x[i + i / 4 * 4], b = x[i + i / 4 * 4 + 4];
    halves[i] = _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee);
  }
  const auto fold_pairs = [](Vec a, Vec b) { return _mm512_shuffle_ps(a, b, 0x88) + _mm512_shuffle_ps(a, b, 0xdd); };
  const auto fold_fours = [&](const Vec* h) { return fold_pairs(fold_pairs(h[0], h[1]), fold_pairs(h[2], h[3])); };
  const Vec low = fold_fours(halves), high = fold_fours(halves + 4);
  return _mm512_shuffle_f32x4(low, high, 0x88) + _mm512_shuffle_f32x4(low, high, 0xdd);
}
DEVICE float max_lane(Vec x) { return _mm512_reduce_max_ps(x); }
DEVICE int32_t max_lane(VecInt x) { return _mm512_reduce_max_epi32((__m512i)x); }
DEVICE int32_t sum_of(VecInt x) { return _mm512_reduce_add_epi32((__m512i)x); }
