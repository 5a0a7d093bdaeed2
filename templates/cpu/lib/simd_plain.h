// Vectors of four floats in portable C++ (GCC and Clang vector extensions): SSE2 on x86-64, NEON on arm64.
#pragma once
#include "lib/types.h"

constexpr int kLanes = 4;
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t VecInt __attribute__((vector_size(16)));
typedef int16_t VecShort __attribute__((vector_size(16)));
typedef uint16_t VecUnsigned __attribute__((vector_size(16)));
typedef uint16_t Half4 __attribute__((vector_size(8)));
typedef int8_t Byte16 __attribute__((vector_size(16)));
typedef int16_t Half8 __attribute__((vector_size(16)));

DEVICE Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }
/** c + a0 b0 + a1 b1 of each pair of int16, in the order that is written, as in simd_avx2.h. */
DEVICE VecInt add_products(VecInt a, VecInt b, VecInt c) {
#if defined(__SSE2__)
  VecInt sum = c + (VecInt)__builtin_ia32_pmaddwd128((VecShort)a, (VecShort)b);
  __asm__("" : "+x"(sum));
  return sum;
#else
  return c + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}
typedef VecShort ByteSums;
typedef int16_t ByteSum;
/** c + a0 b0 + a1 b1 of each pair of bytes, a without a sign. */
DEVICE ByteSums add_bytes(VecInt a, VecInt b, ByteSums c) {
  const VecShort x = (VecShort)b;
  return c + (VecShort)(a & 0xff00ff) * (x << 8 >> 8) + (VecShort)((VecInt)a >> 8 & 0xff00ff) * (x >> 8);
}
/** The sums of each word. */
DEVICE VecInt widened(ByteSums sums) { return ((VecInt)sums << 16 >> 16) + ((VecInt)sums >> 16); }
DEVICE Vec to_floats(VecInt x) { return __builtin_convertvector(x, Vec); }
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

/** Four bytes, each at the top of a word: SSE2 widens none. */
DEVICE VecInt load_bytes(const void* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  const Byte16 bytes = (Byte16)VecInt{four, 0, 0, 0};
  const Half8 pairs = (Half8)__builtin_shufflevector(bytes, bytes, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return (VecInt)__builtin_shufflevector(pairs, pairs, 0, 0, 1, 1, 2, 2, 3, 3);
}
DEVICE Vec load(const int8_t* p) { return __builtin_convertvector(load_bytes(p) >> 24, Vec); }
DEVICE Vec load(const fp8* p) {
  const VecInt bytes = load_bytes(p);
  return (Vec)((bytes & (int32_t)0x80000000) | (bytes >> 4 & 0x07f00000)) * 0x1p112f;
}
DEVICE Vec splat(fp16 x) { return to_float(x) - Vec{}; }
/** Elements of a and b in turn: of their lower halves, of their upper ones. */
DEVICE Vec zip_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
DEVICE Vec zip_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }

/** Elements 0 1, 4 5 of a and b, and 2 3, 6 7. */
DEVICE VecInt even_twos(VecInt a, VecInt b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5); }
DEVICE VecInt odd_twos(VecInt a, VecInt b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7); }

/** words[i] := word i of 16 bytes of each of kLanes rows. */
DEVICE void load_columns(VecInt (&words)[4], const uint8_t* p, int64_t stride) {
  VecInt rows[4];
  for (int r = 0; r < 4; ++r) memcpy(&rows[r], p + r * stride, sizeof rows[r]);
  const VecInt low01 = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5), low23 = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
  const VecInt high01 = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7), high23 = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  words[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  words[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  words[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  words[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}
/** The first number of each of kLanes rows. */
DEVICE Vec load_column(const fp16* p, int64_t stride) {
  fp16 column[kLanes];
  for (int row = 0; row < kLanes; ++row) column[row] = *(const fp16*)((const uint8_t*)p + row * stride);
  return load(column);
}

/** The first two numbers of each of kLanes rows. */
DEVICE void load_two_columns(const fp16* p, int64_t stride, Vec& first, Vec& second) {
  first = load_column(p, stride);
  second = load_column(p + 1, stride);
}

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

/** Lane i := the lane sum of x[i], added as sum_each does. */
DEVICE Vec sum_lanes(const Vec (&x)[kLanes]) { return sum_each(x[0], x[1], x[2], x[3]); }
/** Of floats, or of whole numbers. */
template <class V> DEVICE auto max_lane(V x) {
  auto most = x[0];
  for (int lane = 1; lane < kLanes; ++lane) most = x[lane] > most ? x[lane] : most;
  return most;
}
DEVICE int32_t sum_of(VecInt x) { return x[0] + x[1] + x[2] + x[3]; }
