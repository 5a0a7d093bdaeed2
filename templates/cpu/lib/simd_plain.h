// Vectors of four floats in portable C++ (GCC and Clang vector extensions): SSE2 on x86-64, NEON on arm64.
#pragma once
#include "lib/types.h"

constexpr int kLanes = 4;
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t VecInt __attribute__((vector_size(16)));
typedef uint16_t Half4 __attribute__((vector_size(8)));
typedef int8_t Byte16 __attribute__((vector_size(16)));
typedef int16_t Half8 __attribute__((vector_size(16)));

DEVICE Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }
DEVICE Vec even(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
DEVICE Vec odd(Vec a, Vec b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }

DEVICE VecInt load_halves(const void* p) {
  Half4 halves;
  memcpy(&halves, p, sizeof halves);
  return __builtin_convertvector(halves, VecInt);
}
DEVICE Vec load(const bf16* p) { return (Vec)(load_halves(p) << 16); }
DEVICE Vec load(const fp16* p) {
  const VecInt halves = load_halves(p);
  const VecInt magnitude = (halves & 0x7fff) << 13;
  const VecInt finite = (VecInt)((Vec)magnitude * 0x1p112f);
  const VecInt special = magnitude | 0x70000000;
  return (Vec)((halves & 0x8000) << 16 | (magnitude >= 0x0f800000 ? special : finite));
}

/** Each byte four times, so that a shift brings it down with its sign: SSE2 widens no bytes. */
DEVICE Vec load(const int8_t* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  const Byte16 bytes = (Byte16)VecInt{four, 0, 0, 0};
  const Half8 pairs = (Half8)__builtin_shufflevector(bytes, bytes, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const VecInt words = (VecInt)__builtin_shufflevector(pairs, pairs, 0, 0, 1, 1, 2, 2, 3, 3);
  return __builtin_convertvector(words >> 24, Vec);
}
/** The low (half 0) or high four bits of 4 bytes, less 8. */
DEVICE Vec load_half(const uint8_t* p, int half) {
  const VecInt q = VecInt{p[0], p[1], p[2], p[3]} >> (4 * half) & 15;
  return __builtin_convertvector(q - 8, Vec);
}
DEVICE Vec splat(fp16 x) { return to_float(x) - Vec{}; }

/** Elements 0, 2, 4, 6 of 8 weights, then 1, 3, 5, 7. */
DEVICE Vec load_even(const bf16* p) {
  VecInt pairs;
  memcpy(&pairs, p, sizeof pairs);
  return (Vec)(pairs << 16);
}
DEVICE Vec load_odd(const bf16* p) {
  VecInt pairs;
  memcpy(&pairs, p, sizeof pairs);
  return (Vec)(pairs & (int32_t)0xffff0000);
}

/** Lane sums of a, b, c and d, each (x0 + x1) + (x2 + x3). */
DEVICE Vec sum_each(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = even(a, b) + odd(a, b), cd = even(c, d) + odd(c, d);
  return even(ab, cd) + odd(ab, cd);
}
typedef Vec Sums;
