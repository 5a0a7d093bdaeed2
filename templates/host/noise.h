// The sampler's arithmetic: the same bits on every target, so that the same logits and seed choose the same token.
// Only integer operations, fmaf and IEEE division are used; compile without fast-math.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define HOST_DEVICE static __host__ __device__ __forceinline__
#else
#define HOST_DEVICE static inline
#endif

HOST_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

HOST_DEVICE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/** Key of one step: two rounds of splitmix64 over seed and position. */
HOST_DEVICE uint64_t noise_key(uint64_t seed, int position) {
  uint64_t x = seed;
  for (int round = 0; round < 2; ++round) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    if (round == 0) x ^= (uint64_t)(uint32_t)position << 1 | 1;
  }
  return x;
}

/** 32 uniform bits for a token: two lowbias32 mixes, one for each half of the key. */
HOST_DEVICE uint32_t noise_bits(uint64_t key, int token) {
  uint32_t x = (uint32_t)token + (uint32_t)key;
  for (int round = 0; round < 2; ++round) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    x ^= x >> 16;
    if (round == 0) x += (uint32_t)(key >> 32);
  }
  return x;
}

/** 2 atanh(s) for |s| <= 0.172, error below 1e-10 s. */
HOST_DEVICE float twice_atanh(float s) {
  const float square = s * s;
  float sum = 2.0f / 11;
  sum = fmaf(sum, square, 2.0f / 9);
  sum = fmaf(sum, square, 2.0f / 7);
  sum = fmaf(sum, square, 2.0f / 5);
  sum = fmaf(sum, square, 2.0f / 3);
  sum = fmaf(sum, square, 2.0f);
  return s * sum;
}

/** Natural logarithm of a positive, normal x. */
HOST_DEVICE float noise_log(float x) {
  const uint32_t bits = bits_of(x);
  const int exponent = (int32_t)(bits - 0x3f3504f3u) >> 23;  // x = m * 2^exponent with m in [sqrt(1/2), sqrt(2))
  const float m = float_of(bits - ((uint32_t)exponent << 23));
  return fmaf((float)exponent, 0.693147181f, twice_atanh((m - 1.0f) / (m + 1.0f)));
}

/** Standard Gumbel noise -log(-log(1 - v)), v = (bits + 1/2) / 2^32: small bits give large noise, with full relative precision. */
HOST_DEVICE float gumbel(uint32_t bits) {
  float exponential;  // -log(1 - v)
  if (bits < 1u << 30) {
    const float v = fmaf((float)bits, 0x1p-32f, 0x1p-33f);
    exponential = twice_atanh(v / (2.0f - v));
  } else {
    exponential = -noise_log(fmaf((float)~bits, 0x1p-32f, 0x1p-33f));
  }
  return -noise_log(exponential);
}

/** An upper bound of gumbel(bits), from leading zeros alone: -log(1 - v) >= v >= 2^-(zeros + 1). */
HOST_DEVICE float gumbel_bound(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  const int zeros = __clz((int)bits);
#else
  const int zeros = bits ? __builtin_clz(bits) : 32;
#endif
  return (float)(zeros + 1) * 0.69315f;
}

/** exp(x) for x <= 0 as a 40-bit fraction: sums of these do not depend on their order. Exactly 2^40 at 0. */
HOST_DEVICE uint64_t exp_fixed(float x) {
  if (!(x > -28.0f)) return 0;  // below 2^-40
  const float n = rintf(x * 1.44269504f);
  const float r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, x));
  float sum = 1.0f / 720;
  sum = fmaf(sum, r, 1.0f / 120);
  sum = fmaf(sum, r, 1.0f / 24);
  sum = fmaf(sum, r, 1.0f / 6);
  sum = fmaf(sum, r, 0.5f);
  sum = fmaf(sum, r, 1.0f);
  sum = fmaf(sum, r, 1.0f);
  return (uint64_t)(sum * float_of((uint32_t)(127 + 40 + (int)n) << 23));
}

/** What penalties count of a token: whether it is in the prompt, and above that bit how often it was chosen for the reply. */
enum { kInPrompt = 1, kChosenOnce = 2 };

/** What presence and frequency penalty take off the logit of a token that occurred. */
HOST_DEVICE float penalty_of(int count, float presence, float frequency) {
  return fmaf((float)(count / kChosenOnce), frequency, presence);
}

/** The logit of a token that occurred, after the penalties. */
HOST_DEVICE float penalised(float logit, int count, float repetition, float presence, float frequency) {
  const float less = penalty_of(count, presence, frequency);
  return logit < 0 ? fmaf(logit, repetition, -less) : logit / repetition - less;
}
