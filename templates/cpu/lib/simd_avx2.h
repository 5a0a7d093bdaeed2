// Vectors of eight floats: AVX2 with FMA and F16C.
#pragma once
#include <immintrin.h>

#include "lib/types.h"

constexpr int kLanes = 8;
typedef __m256 Vec;
typedef int32_t VecInt __attribute__((vector_size(32)));

DEVICE Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
DEVICE Vec even(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
DEVICE Vec odd(Vec a, Vec b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }

DEVICE Vec load(const bf16* p) {
  const __m256i halves = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(halves, 16));
}
DEVICE Vec load(const fp16* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }

DEVICE Vec load(const int8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
/** The low (half 0) or high four bits of 8 bytes, less 8. */
DEVICE Vec load_half(const uint8_t* p, int half) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
  const __m256i q = half == 0 ? _mm256_and_si256(bytes, _mm256_set1_epi32(15)) : _mm256_srli_epi32(bytes, 4);
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(q, _mm256_set1_epi32(8)));
}
DEVICE Vec splat(fp16 x) { return _mm256_cvtph_ps(_mm_set1_epi16((short)x.bits)); }

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
