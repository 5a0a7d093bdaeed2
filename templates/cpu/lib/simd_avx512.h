// Vectors of sixteen floats: AVX-512 F, BW, VL and DQ.
#pragma once
#include <immintrin.h>

#include "lib/types.h"

// GCC 12 warns of uninitialised values in its own avx512fintrin.h.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

constexpr int kLanes = 16;
typedef __m512 Vec;
typedef int32_t VecInt __attribute__((vector_size(64)));

DEVICE Vec multiply_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
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
/** The low (half 0) or high four bits of 16 bytes, less 8. */
DEVICE Vec load_half(const uint8_t* p, int half) {
  const __m512 numbers = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
  return _mm512_permutexvar_ps(half == 0 ? bytes : _mm512_srli_epi32(bytes, 4), numbers);  // the index is four bits
}
DEVICE Vec splat(fp16 x) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)x.bits)); }

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
