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
