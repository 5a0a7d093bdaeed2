// Number formats of weights: bf16, fp16 and fp32, any to any. To nearest, ties to even; NaN stays NaN.
#pragma once
#include <cstdint>
#include <cstring>

#include "abi.h"

inline int dtype_bytes(int dtype) { return dtype == kDtypeFp32 ? 4 : 2; }

inline uint32_t float_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float from_bf16(uint16_t bits) { return bits_float(uint32_t{bits} << 16); }

inline uint16_t to_bf16(float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;  // a NaN must not round to infinity
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

inline float from_fp16(uint16_t half) {
  // The exponent bias differs by 112; the product also normalises what is subnormal in fp16.
  const float magnitude = bits_float(uint32_t{half & 0x7fffu} << 13) * bits_float(0x77800000u);  // 2^112
  const uint32_t special = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  return bits_float(float_bits(magnitude) | special | uint32_t{half & 0x8000u} << 16);
}

inline uint16_t to_fp16(float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the fp16 subnormal in the low bits, rounded
    const float shifted = bits_float(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (float_bits(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

/** to[i] = map(from[i]). Blocks of a fixed size, so that a compiler makes vectors of them at -O2 too. */
template <class From, class To, class Map>
inline void map_numbers(const void* from, void* to, int64_t n, Map map) {
  constexpr int64_t kBlock = 64;
  const From* __restrict in = static_cast<const From*>(from);
  To* __restrict out = static_cast<To*>(to);
  for (; n >= kBlock; n -= kBlock, in += kBlock, out += kBlock) {
    for (int64_t i = 0; i < kBlock; ++i) out[i] = map(in[i]);
  }
  for (int64_t i = 0; i < n; ++i) out[i] = map(in[i]);
}

/** Converts n numbers of one format to another. The formats are of the ABI; from and to do not overlap. */
inline void convert(const void* from, int from_dtype, void* to, int to_dtype, int64_t n) {
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, static_cast<size_t>(n) * dtype_bytes(to_dtype));
  } else if (to_dtype == kDtypeFp32) {
    if (from_dtype == kDtypeBf16) map_numbers<uint16_t, float>(from, to, n, [](uint16_t x) { return from_bf16(x); });
    if (from_dtype == kDtypeFp16) map_numbers<uint16_t, float>(from, to, n, [](uint16_t x) { return from_fp16(x); });
  } else if (to_dtype == kDtypeBf16) {
    if (from_dtype == kDtypeFp16) map_numbers<uint16_t, uint16_t>(from, to, n, [](uint16_t x) { return to_bf16(from_fp16(x)); });
    if (from_dtype == kDtypeFp32) map_numbers<float, uint16_t>(from, to, n, [](float x) { return to_bf16(x); });
  } else {
    if (from_dtype == kDtypeBf16) map_numbers<uint16_t, uint16_t>(from, to, n, [](uint16_t x) { return to_fp16(from_bf16(x)); });
    if (from_dtype == kDtypeFp32) map_numbers<float, uint16_t>(from, to, n, [](float x) { return to_fp16(x); });
  }
}
