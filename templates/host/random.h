// Random weights from a counter: element i of a tensor depends on (seed, i) alone, so all targets and thread counts agree.
#pragma once
#include <cstdint>

#include "convert.h"

/** A bijection that scatters 64 bits. Source: splitmix64 (Vigna), the finaliser of Stafford's mix 13. */
inline uint64_t scatter(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/** A standard normal, nearly: the centred sum of four 16-bit uniforms (Irwin-Hall; bounded by 3.46, kurtosis 2.7), times
 *  kUniformSumDeviation. The sum is an integer, so that rounding enters only once, in the scaling below. */
inline int32_t uniform_sum(uint64_t seed, int64_t index) {
  const uint64_t bits = scatter(scatter(seed) + (static_cast<uint64_t>(index) + 1) * 0x9e3779b97f4a7c15u);
  const uint64_t pairs = (bits & 0x0000ffff0000ffffu) + ((bits >> 16) & 0x0000ffff0000ffffu);
  return static_cast<int32_t>((pairs >> 32) + (pairs & 0xffffffffu)) - 131070;
}
constexpr double kUniformSumDeviation = 37837.22709;  // sqrt(4 * (2^32 - 1) / 12)

/** Elements [first, first + n) of a tensor with this mean and deviation, rounded to dtype. */
inline void random_weights(void* out, int dtype, int64_t first, int64_t n, uint64_t seed, float mean, float scale) {
  // The product is exact in double (18 by 24 bits), so a compiler may fuse it with the sum and change nothing.
  const auto step = static_cast<double>(static_cast<float>(scale / kUniformSumDeviation));
  constexpr int64_t kBlock = 1024;
  float values[kBlock];
  for (int64_t done = 0; done < n; done += kBlock) {
    const int64_t count = n - done < kBlock ? n - done : kBlock;
    for (int64_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(mean + uniform_sum(seed, first + done + i) * step);
    }
    convert(values, kDtypeFp32, static_cast<char*>(out) + done * dtype_bytes(dtype), dtype, count);
  }
}
