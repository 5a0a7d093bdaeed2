// Vectors of sixteen pairs of bf16: AVX-512-BF16.
//
// VDPBF16PS rounds to nearest and takes denormals as zeros, weights and sums too: less than 2^-126 of a term's other factor.
#pragma once
#include "lib/simd_avx512.h"

typedef __m512bh Pairs;

DEVICE Pairs load_pairs(const void* p) { return (Pairs)_mm512_loadu_si512(p); }
/** a, then b, rounded to nearest, ties to even. */
DEVICE Pairs pairs_of(Vec a, Vec b) { return _mm512_cvtne2ps_pbh(b, a); }
/** c + a0 b0 + a1 b1 of each pair. */
DEVICE Vec multiply_add(Pairs a, Pairs b, Vec c) { return _mm512_dpbf16_ps(c, a, b); }
