// Storage types of weights and cache, with their conversions; included by model.h, which picks one as Matrix.
#pragma once
#include <stdint.h>
#include <string.h>

// Everything is static: the kernel is compiled once per instruction set, and the linker must never take
// one copy of an inline function for all of them.
#define DEVICE static inline
#define NOINLINE static __attribute__((noinline))

struct bf16 {
  uint16_t bits;
};
struct fp16 {
  uint16_t bits;
};

/** 32 numbers q * scale that follow each other in a row: Q8_0 of ggml. */
struct int8_block {
  fp16 scale;
  int8_t q[32];
};
/** 32 numbers (q - 8) * scale: Q4_0 of ggml. q of element i is in the low half of byte i, of i + 16 in the high one. */
struct int4_block {
  fp16 scale;
  uint8_t q[16];
};
/** 32 numbers q * scale + least: Q4_1 of ggml, with q as in Q4_0. */
struct int4_asym_block {
  fp16 scale, least;
  uint8_t q[16];
};

/** A 256th of a number of e4m3 (sign, 4 bits of exponent, 3 of fraction): its bits, put further up, are an fp16. What would be NaN is 480 / 256. */
struct fp8 {
  uint8_t bits;
};
/** 32 numbers q * scale. */
struct fp8_block {
  fp16 scale;
  fp8 q[32];
};

/** D numbers q * scale: a key or a value of the cache. */
template <class Q, int D> struct scaled_row {
  float scale;
  Q q[D];
};

/** Numbers that one W of a stored row holds. */
template <class W> constexpr int kHeld = 1;
template <> inline constexpr int kHeld<int8_block> = 32;
template <> inline constexpr int kHeld<int4_block> = 32;
template <> inline constexpr int kHeld<int4_asym_block> = 32;
template <> inline constexpr int kHeld<fp8_block> = 32;
template <class Q, int D> constexpr int kHeld<scaled_row<Q, D>> = D;

/** Whether rows of W are multiplied as whole numbers, by inputs in 16 bits. */
template <class W> constexpr bool kWhole = false;
template <> inline constexpr bool kWhole<int8_block> = true;
template <> inline constexpr bool kWhole<int4_block> = true;
template <> inline constexpr bool kWhole<int4_asym_block> = true;

/** What rows of W are multiplied as otherwise. */
template <class W> struct MultipliedAs {
  using Type = W;
};
template <> struct MultipliedAs<fp8_block> {
  using Type = float;
};

/** The first two bytes of each of four rows. */
DEVICE uint64_t four_columns(const void* p, int64_t stride) {
  const auto bits = [=](int row) {
    uint16_t two;
    memcpy(&two, (const char*)p + row * stride, sizeof two);
    return (uint64_t)two;
  };
  return bits(0) | bits(1) << 16 | bits(2) << 32 | bits(3) << 48;
}

/** W of a stored row of so many numbers. */
template <class W> DEVICE constexpr int64_t stored(int64_t numbers) { return numbers / kHeld<W>; }

/** Rows [begin, end). */
struct Range {
  int begin, end;
};

/** Elements of a stored row of k: the next multiple of 32. */
DEVICE constexpr int padded(int k) { return (k + 31) / 32 * 32; }

DEVICE constexpr int smaller(int a, int b) { return a < b ? a : b; }
DEVICE constexpr int larger(int a, int b) { return a > b ? a : b; }

DEVICE float float_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
DEVICE uint32_t bits_from_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(int8_t x) { return x; }
DEVICE float to_float(bf16 x) { return float_from_bits((uint32_t)x.bits << 16); }
DEVICE float to_float(fp16 x) {
  const uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16;
  const uint32_t magnitude = (uint32_t)(x.bits & 0x7fff) << 13;
  if (magnitude >= 0x0f800000) return float_from_bits(sign | 0x70000000 | magnitude);  // infinity, NaN
  return float_from_bits(sign | bits_from_float(float_from_bits(magnitude) * 0x1p112f));
}

DEVICE float to_float(fp8 x) { return to_float(fp16{(uint16_t)((x.bits & 0x80) << 8 | (x.bits & 0x7f) << 7)}); }

/** Number i of a stored row. */
template <class W> DEVICE float element(const W* row, int i) { return to_float(row[i]); }
DEVICE float element(const int8_block* row, int i) { return to_float(row[i / 32].scale) * row[i / 32].q[i % 32]; }
template <class W> DEVICE int nibble(const W& block, int i) { return block.q[i % 16] >> (i / 16 * 4) & 15; }
DEVICE float element(const int4_block* row, int i) { return to_float(row[i / 32].scale) * (float)(nibble(row[i / 32], i % 32) - 8); }
DEVICE float element(const int4_asym_block* row, int i) {
  return to_float(row[i / 32].scale) * (float)nibble(row[i / 32], i % 32) + to_float(row[i / 32].least);
}

DEVICE float element(const fp8_block* row, int i) { return to_float(row[i / 32].scale) * to_float(row[i / 32].q[i % 32]); }

/** Rounds to nearest, ties to even; NaN stays NaN, fp16 overflow gives infinity. */
DEVICE void round_to(float* out, float x) { *out = x; }
DEVICE void round_to(bf16* out, float x) {
  const uint32_t bits = bits_from_float(x);
  out->bits = x != x ? (uint16_t)(bits >> 16 | 0x40) : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
DEVICE void round_to(fp16* out, float x) {
  const uint32_t bits = bits_from_float(x), magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) half = 0x7e00;
  else if (magnitude >= 0x477ff000) half = 0x7c00;  // 65520 and above
  else if (magnitude < 0x38800000) half = bits_from_float(float_from_bits(magnitude) + 0.5f) - 0x3f000000;  // subnormal: 0.5 has ulp 2^-24
  else half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  out->bits = (uint16_t)((bits >> 16 & 0x8000) | half);
}
/** A number of a scaled row before it is scaled; the largest is the largest. NaN becomes 0. */
DEVICE void round_to(int8_t* out, float x) {
  const float limited = x < -127.0f ? -127.0f : x > 127.0f ? 127.0f : x;
  *out = (int8_t)(bits_from_float(limited + 0x1.8p23f) - 0x4b400000);  // adding it rounds to an integer, kept in the low bits
}
