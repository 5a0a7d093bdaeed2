// Weights in blocks, as GGUF files quantise them: small whole numbers that share a scale, and in some formats a minimum. Those of fp8 no file has.
// Layouts are those of ggml: fields without padding, little endian. Products are exact in float32, so all compilers give the same bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "abi.h"
#include "convert.h"

/** A format of a file: numbers of a block and its bytes. Plain numbers are blocks of one. */
struct Blocks {
  int elements, bytes;
};

inline Blocks blocks_of(int dtype) {
  switch (dtype) {
    case kDtypeQ8_0: return {32, 34};
    case kDtypeQ4_0: return {32, 18};
    case kDtypeF8_block: return {32, 34};
    case kDtypeQ4_1: return {32, 20};
    case kDtypeQ5_0: return {32, 22};
    case kDtypeQ5_1: return {32, 24};
    case kDtypeQ4_k: return {256, 144};
    case kDtypeQ5_k: return {256, 176};
    case kDtypeQ6_k: return {256, 210};
    default: return {1, dtype_bytes(dtype)};
  }
}

constexpr int kMostBlockElements = 256, kMostBlockBytes = 210;

inline float half_at(const uint8_t* bytes) {
  uint16_t half;
  std::memcpy(&half, bytes, sizeof half);
  return from_fp16(half);
}

/** d, 32 signed bytes. */
inline void expand_q8_0(const uint8_t* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<int8_t>(block[2 + i]);
}

/** d, [minimum], [a fifth bit of each], 16 bytes: element i in the low halves, i + 16 in the high ones. */
template <bool kFiveBits, bool kMinimum>
inline void expand_q4_q5(const uint8_t* block, float* out) {
  const float d = half_at(block);
  const float least = kMinimum ? half_at(block + 2) : 0;
  const uint8_t* fifth = block + (kMinimum ? 4 : 2);
  const uint8_t* low = fifth + (kFiveBits ? 4 : 0);
  constexpr int kMiddle = kMinimum ? 0 : kFiveBits ? 16 : 8;
  for (int i = 0; i < 32; ++i) {
    int q = i < 16 ? low[i] & 15 : low[i - 16] >> 4;
    if (kFiveBits) q |= (fifth[i / 8] >> (i % 8) & 1) << 4;
    out[i] = d * (q - kMiddle) + least;
  }
}

/** Scale and minimum, of 6 bits each, of part `i` of a block of Q4_K or Q5_K. */
inline void part_of(const uint8_t* packed, int i, int& scale, int& least) {
  if (i < 4) {
    scale = packed[i] & 63;
    least = packed[i + 4] & 63;
  } else {
    scale = (packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4;
    least = packed[i + 4] >> 4 | (packed[i] >> 6) << 4;
  }
}

/** d, d of minima, 12 bytes of scales, [32 bytes of fifth bits], 128 bytes: parts 2n in the low halves of 32 bytes, 2n + 1 in the high ones. */
template <bool kFiveBits>
inline void expand_q4_q5_k(const uint8_t* block, float* out) {
  const float d = half_at(block), d_least = half_at(block + 2);
  const uint8_t* fifth = block + 16;
  const uint8_t* low = fifth + (kFiveBits ? 32 : 0);
  for (int part = 0; part < 8; ++part) {
    int scale, least;
    part_of(block + 4, part, scale, least);
    const float step = d * scale, from = d_least * least;
    for (int i = 0; i < 32; ++i) {
      int q = low[part / 2 * 32 + i] >> (part % 2 * 4) & 15;
      if (kFiveBits) q |= (fifth[i] >> part & 1) << 4;
      out[part * 32 + i] = step * q - from;
    }
  }
}

/** 128 bytes of low halves, 64 of two high bits, 16 signed scales, d. */
inline void expand_q6_k(const uint8_t* block, float* out) {
  const float d = half_at(block + 208);
  for (int part = 0; part < 8; ++part) {
    const int half = part / 4, quarter = part % 4;
    const uint8_t* low = block + half * 64 + quarter % 2 * 32;
    const uint8_t* high = block + 128 + half * 32;
    for (int i = 0; i < 32; ++i) {
      const int q = (low[i] >> (quarter / 2 * 4) & 15) | (high[i] >> (quarter * 2) & 3) << 4;
      const auto scale = static_cast<int8_t>(block[192 + part * 2 + i / 16]);
      out[part * 32 + i] = d * scale * static_cast<float>(q - 32);
    }
  }
}

/** The numbers of one block. */
inline void expand(int dtype, const uint8_t* block, float* out) {
  switch (dtype) {
    case kDtypeQ8_0: return expand_q8_0(block, out);
    case kDtypeQ4_0: return expand_q4_q5<false, false>(block, out);
    case kDtypeQ4_1: return expand_q4_q5<false, true>(block, out);
    case kDtypeQ5_0: return expand_q4_q5<true, false>(block, out);
    case kDtypeQ5_1: return expand_q4_q5<true, true>(block, out);
    case kDtypeQ4_k: return expand_q4_q5_k<false>(block, out);
    case kDtypeQ5_k: return expand_q4_q5_k<true>(block, out);
    case kDtypeQ6_k: return expand_q6_k(block, out);
  }
}

inline void put_half(float value, uint8_t* to) {
  const uint16_t half = to_fp16(value);
  std::memcpy(to, &half, sizeof half);
}

/** Whether a block of Q4_1 can say the codes of this format, with scale and minimum in fp16. */
inline bool has_codes_of_q4_1(int dtype) { return dtype == kDtypeQ4_0 || dtype == kDtypeQ4_k; }

/** Part `part` of a block of Q4_0, which is one, or of Q4_K as a block of Q4_1. */
inline void put_q4_1(int dtype, const uint8_t* block, int part, uint8_t* out) {
  const float d = half_at(block);
  if (dtype == kDtypeQ4_0) {
    put_half(d, out);
    put_half(-8 * d, out + 2);
    std::memcpy(out + 4, block + 2, 16);
    return;
  }
  int scale, least;
  part_of(block + 4, part, scale, least);
  put_half(d * scale, out);
  put_half(-half_at(block + 2) * least, out + 2);
  const uint8_t* const codes = block + 16 + part / 2 * 32;
  const auto code = [=](int i) { return codes[i] >> (part % 2 * 4) & 15; };
  for (int i = 0; i < 16; ++i) out[4 + i] = static_cast<uint8_t>(code(i) | code(i + 16) << 4);
}

/** As convert, from element `first` of a row of blocks, or of plain numbers. */
inline void convert_blocks(const char* from, int from_dtype, int64_t first, char* to, int to_dtype, int64_t n) {
  const Blocks blocks = blocks_of(from_dtype);
  if (blocks.elements == 1) return convert(from + first * blocks.bytes, from_dtype, to, to_dtype, n);
  if (from_dtype == to_dtype) {  // whole blocks
    std::memcpy(to, from + first / blocks.elements * blocks.bytes, static_cast<size_t>(n / blocks.elements * blocks.bytes));
    return;
  }
  if (to_dtype == kDtypeQ4_1) {  // whole blocks, of a format that has its codes
    for (int64_t at = first; at < first + n; at += 32, to += blocks_of(kDtypeQ4_1).bytes) {
      const auto* const block = reinterpret_cast<const uint8_t*>(from) + at / blocks.elements * blocks.bytes;
      put_q4_1(from_dtype, block, static_cast<int>(at % blocks.elements / 32), reinterpret_cast<uint8_t*>(to));
    }
    return;
  }
  float numbers[kMostBlockElements];
  while (n > 0) {
    expand(from_dtype, reinterpret_cast<const uint8_t*>(from) + first / blocks.elements * blocks.bytes, numbers);
    const int64_t skipped = first % blocks.elements;
    const int64_t count = std::min(n, blocks.elements - skipped);
    convert(numbers + skipped, kDtypeFp32, to, to_dtype, count);
    first += count;
    to += count * dtype_bytes(to_dtype);
    n -= count;
  }
}
