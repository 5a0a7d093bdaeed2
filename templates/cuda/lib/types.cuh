// Number types, padded rows and the sizes that kernel and host code agree on; g++ reads this file too.
#pragma once
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

using bf16 = __nv_bfloat16;
using fp16 = __half;

#define BOTH __host__ __device__

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

/** Elements from one packed row to the next: K rounded up to a multiple of 32, zero filled. */
BOTH constexpr int padded(int k) { return (k + 31) / 32 * 32; }

/** Rows [begin, end). */
struct Range {
  int begin, end;
};

// Pass.barrier, in words of 4 bytes: arrivals on a line of their own; on the next line what went wrong, and room for the host.
constexpr int kBarrierArrivals = 0;
constexpr int kBarrierError = 32;    // 0, or 1 + the first block that waited too long
constexpr int kBarrierOrdinal = 33;  // the grid barrier of the pass at which it waited, counted from 1
constexpr int kBarrierHost = 40;     // words from here on are the host's
constexpr int kBarrierWords = 64;

BOTH constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }

/** The smallest power of two that is at least n. */
BOTH constexpr int power_of_two(int n) { return n <= 1 ? 1 : 2 * power_of_two((n + 1) / 2); }
