// Products of rows in blocks of whole numbers with inputs in 8 bits, 32 of them to a scale as in the rows: an instruction multiplies four numbers of a
// row at once, where inputs in 16 bits have two.
//
// Numbers of rows are multiplied as codes from 0 to 15: an int4 is its code less 8, an int8 is 16 times a code less 8, and another. Inputs are from -128 to
// 127, so that each two products that an instruction adds are below 2^12, and the sixteen that meet in 16 bits below 2^15, before and after the 8 is taken away: no
// sum saturates, and all are exact, in whichever order and width an instruction set adds them. One in between may wrap around, and wraps back.
// Where sums have 32 bits (VNNI), an int8 is one code less 128, and its sums are the same numbers.
// kLanes rows are multiplied together, a lane for each. A (row, token) adds its blocks one after the other, be it with how many others: its bits are the same in every pass.
#pragma once
#include "lib/input.h"

/** Tokens that share the loads of codes. One Zen 3 core, K = 1024, from memory, 1, 4, 8, 16 and 64 tokens: 35, 102, 135, 162 and 181 GFlop/s for int4, 18, 54, 73, 87
 *  and 101 for int8, whose two codes are as many instructions as inputs in 16 bits take (28, 65, 73, 76, 90 and 14, 47, 65, 69, 75). Eight tokens give int4 2 %, and take 15 % of int8; two take 7 % of int4. */
constexpr int kByteTokens = kLanes == 16 ? 8 : 4;

/** Whether an instruction adds four products to 32 bits. */
constexpr bool kWideSums = sizeof(ByteSum) == sizeof(int32_t);

/** Codes of a number; the upper of two is the first. One Zen 5 core, K = 1024, int8 from memory, 1, 4, 16 and 64 tokens, GFlop/s: 67, 194, 364 and 488 as one code,
 *  33, 114, 225 and 267 as two. */
template <class W> constexpr int kDigits = 1;
template <> inline constexpr int kDigits<int8_block> = kWideSums ? 1 : 2;

/** The offset of an input is for a code that is 8 more than its number: this is the binary logarithm of how many times more it is. */
template <class W> constexpr int kOffsetShift = 0;
template <> inline constexpr int kOffsetShift<int8_block> = kWideSums ? 4 : 0;

DEVICE void unpack_nibbles(VecInt (&codes)[1][8], const uint8_t* q, int64_t stride) {
  VecInt words[4];
  load_columns(words, q, stride);
  for_each<4>([&](auto i) {
    codes[0][i] = words[i] & 0x0f0f0f0f;
    codes[0][4 + i] = words[i] >> 4 & 0x0f0f0f0f;
  });
}
DEVICE void unpack_codes(VecInt (&codes)[1][8], const int4_block* rows, int64_t stride) { unpack_nibbles(codes, rows->q, stride); }
DEVICE void unpack_codes(VecInt (&codes)[1][8], const int4_asym_block* rows, int64_t stride) { unpack_nibbles(codes, rows->q, stride); }
DEVICE void unpack_codes(VecInt (&codes)[1][8], const int8_block* rows, int64_t stride) {
  for_each<2>([&](auto half) {
    VecInt words[4];
    load_columns(words, (const uint8_t*)rows->q + 16 * half, stride);
    for_each<4>([&](auto i) { codes[0][4 * half + i] = words[i] ^ (int32_t)0x80808080; });
  });
}
DEVICE void unpack_codes(VecInt (&codes)[2][8], const int8_block* rows, int64_t stride) {
  for_each<2>([&](auto half) {
    VecInt words[4];
    load_columns(words, (const uint8_t*)rows->q + 16 * half, stride);
    for_each<4>([&](auto i) {
      codes[0][4 * half + i] = (words[i] ^ (int32_t)0x80808080) >> 4 & 0x0f0f0f0f;
      codes[1][4 * half + i] = words[i] & 0x0f0f0f0f;
    });
  });
}

/** totals[t] += dot(a block of kLanes rows, input t), T of them. */
template <int T, int OffsetShift, int Digits>
DEVICE __attribute__((always_inline)) void dot_codes(const VecInt (&codes)[Digits][8], Vec scale, const InputBytes* input, Vec* totals) {
  constexpr int ways = kWideSums && T <= 2 ? 4 / T : 1;  // sums of a code that are under way at once: one Zen 5 core, int4, one token, from memory 108 GFlop/s in the place of 79
  ByteSums sums[T][Digits][ways] = {};
  for_each<T>([&](auto t) { sums[t][0][0] = (ByteSums)(VecInt{} + (input[t].offset << OffsetShift)); });
  for_each<8>([&](auto i) {
    for_each<T>([&](auto t) {
      const VecInt x = VecInt{} + input[t].words[i];
      for_each<Digits>([&](auto digit) {
        ByteSums& sum = sums[t][digit][i % ways];
        sum = add_bytes(codes[digit][i], x, sum);
      });
    });
  });
  for_each<T>([&](auto t) {
    VecInt sum = widened(sums[t][0][0]);
    for (int way = 1; way < ways; ++way) sum += widened(sums[t][0][way]);
    if constexpr (Digits == 2) sum = (sum << 4) + widened(sums[t][1][0]);
    totals[t] = multiply_add(to_floats(sum), scale * splat(input[t].scale), totals[t]);
  });
}

/** The same of all tokens. */
template <int OffsetShift, int Digits>
DEVICE __attribute__((always_inline)) void dot_codes_all(const VecInt (&codes)[Digits][8], Vec scale, const InputBytes* input, int tokens, Vec* totals) {
  for_tokens<kByteTokens>(0, tokens, [&](auto count, int first) __attribute__((always_inline)) {
    dot_codes<count, OffsetShift>(codes, scale, input + first, totals + first);
  });
}

/** The same as a function of its own. One Zen 3 core: int4 takes 5 to 18 % less time where it is none, since its codes stay in registers; the two of an int8
 *  do not fit, and it takes 6 to 12 % more for 4 tokens and more. */
template <int OffsetShift, int Digits>
NOINLINE void dot_codes_apart(const VecInt (&codes)[Digits][8], Vec scale, const InputBytes* input, int tokens, Vec* totals) {
  dot_codes_all<OffsetShift>(codes, scale, input, tokens, totals);
}

/** out[t * out_stride + lane] := dot(row, token t) of kLanes rows, row_stride blocks apart: rows are read once, in order. */
template <class W>
NOINLINE void dot_byte_rows(const W* rows, int64_t row_stride, const InputBytes* input, int tokens, int blocks, float* out, int out_stride) {
  const int64_t stride = row_stride * sizeof(W);
  const char* ahead = (const char*)rows + kLanes * stride;
  Vec totals[kPassTokens];
  for (int t = 0; t < tokens; ++t) totals[t] = Vec{};
  for (int block = 0; block < blocks; ++block, ++rows, input += tokens, ahead += kLanes * sizeof(W)) {
    for (int byte = 0; byte < kLanes * (int)sizeof(W); byte += 64) __builtin_prefetch(ahead + byte);
    VecInt codes[kDigits<W>][8];
    unpack_codes(codes, rows, stride);
    const Scales of = load_scales(rows, stride);
    if constexpr (kDigits<W> == 1) dot_codes_all<kOffsetShift<W>>(codes, of.scale, input, tokens, totals);
    else dot_codes_apart<kOffsetShift<W>>(codes, of.scale, input, tokens, totals);
    if constexpr (kAdds<W>) {
      for (int t = 0; t < tokens; ++t) totals[t] = multiply_add(of.added, splat(input[t].sum), totals[t]);
    }
  }
  for (int t = 0; t < tokens; ++t) store(out + t * out_stride, totals[t]);
}

/** kLanes rows of `blocks` blocks from one on; where there are fewer, their copy in `rest`, with anything behind it. */
template <class W> DEVICE const W* rows_from(const W* rows, int row_count, W* rest, int from, int blocks) {
  if (from + kLanes <= row_count) return rows + (int64_t)from * blocks;
  if (from < row_count) memcpy((void*)rest, rows + (int64_t)from * blocks, (int64_t)(row_count - from) * blocks * sizeof(W));
  return rest;
}

/** As dot_blocks of inputs in 16 bits. */
template <class W>
DEVICE void dot_blocks(const W* rows, int row_count, W* rest, const InputBytes* input, int tokens, int blocks, float* out, int out_stride) {
  for (int row = 0; row < row_count; row += kLanes) {
    dot_byte_rows(rows_from(rows, row_count, rest, row, blocks), blocks, input, tokens, blocks, out + row, out_stride);
  }
}
