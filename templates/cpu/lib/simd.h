// Vec, kLanes floats of the instruction set this file is compiled for, and what is written in terms of it.
#pragma once
#if defined(__AVX512BF16__)
#include "lib/simd_avx512bf16.h"
#elif defined(__AVX512F__)
#include "lib/simd_avx512.h"
#elif defined(__AVX2__)
#include "lib/simd_avx2.h"
#else
#include "lib/simd_plain.h"
#endif

/** Weights one step of a dot product takes: two vectors, called first and second. */
constexpr int kStep = 2 * kLanes;

DEVICE Vec load(const float* p) {
  Vec x;
  memcpy(&x, p, sizeof x);
  return x;
}
DEVICE void store(float* p, Vec x) { memcpy(p, &x, sizeof x); }
DEVICE Vec splat(float x) { return x - Vec{}; }
DEVICE Vec max_of(Vec a, Vec b) { return a > b ? a : b; }

// The order in which a step's weights are multiplied: bf16 pairs come as even and odd elements, the others as they lie.
DEVICE Vec load_first(const bf16* p) { return load_even(p); }
DEVICE Vec load_second(const bf16* p) { return load_odd(p); }
DEVICE Vec load_first(const fp16* p) { return load(p); }
DEVICE Vec load_second(const fp16* p) { return load(p + kLanes); }
DEVICE Vec load_first(const float* p) { return load(p); }
DEVICE Vec load_second(const float* p) { return load(p + kLanes); }
DEVICE Vec load_first(const int8_t* p) { return load(p); }
DEVICE Vec load_second(const int8_t* p) { return load(p + kLanes); }

/** A step of inputs a, b in that order. */
DEVICE Vec first_of(const bf16*, Vec a, Vec b) { return even(a, b); }
DEVICE Vec second_of(const bf16*, Vec a, Vec b) { return odd(a, b); }
template <class W> DEVICE Vec first_of(const W*, Vec a, Vec) { return a; }
template <class W> DEVICE Vec second_of(const W*, Vec, Vec b) { return b; }

/** a and b of the vectors that first_of and second_of make of them. */
DEVICE Vec a_of(const bf16*, Vec first, Vec second) { return zip_low(first, second); }
DEVICE Vec b_of(const bf16*, Vec first, Vec second) { return zip_high(first, second); }
template <class W> DEVICE Vec a_of(const W*, Vec first, Vec) { return first; }
template <class W> DEVICE Vec b_of(const W*, Vec, Vec second) { return second; }

DEVICE float sum(Vec x) { return sum_each(x, x, x, x)[0]; }

/** exp(x) within 3 ulp for x <= 88; 0 below -87, -inf included. */
DEVICE Vec exp(Vec x) {
  const Vec magic = splat(0x1.8p23f);  // adding it rounds to an integer, kept in the low bits
  const Vec shifted = multiply_add(x, splat(1.44269504f), magic);
  const Vec n = shifted - magic;
  const Vec r = multiply_add(n, splat(-1.42860677e-6f), multiply_add(n, splat(-0.693145752f), x));
  Vec sum = splat(1.0f / 720);
  sum = multiply_add(sum, r, splat(1.0f / 120));
  sum = multiply_add(sum, r, splat(1.0f / 24));
  sum = multiply_add(sum, r, splat(1.0f / 6));
  sum = multiply_add(sum, r, splat(0.5f));
  sum = multiply_add(sum, r, splat(1.0f));
  sum = multiply_add(sum, r, splat(1.0f));
  const Vec scaled = (Vec)((VecInt)sum + ((VecInt)shifted << 23));
  return x < splat(-87.0f) ? Vec{} : scaled;
}
