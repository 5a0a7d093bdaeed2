// Logits that are no numbers: weights with NaN or an infinity in them, or a sum that left the range of its format.
#pragma once
#include <cstdint>
#include <cstring>

/** In the place of a token: none was chosen, since a logit was NaN or infinite. */
constexpr int32_t kNotFinite = -2;

/** In the place of a token: the tokens of a prompt did not go through all layers, since the host asked to stop. */
constexpr int32_t kAbandoned = -3;

/** Whether the bits of a float say NaN or infinity. Looks at bits, since compilers may be told that there are no such numbers.
 *  Static: one object for each instruction set has it, and none is to run another's. */
#if defined(__CUDACC__)
__host__ __device__
#endif
static inline bool not_finite(uint32_t bits) {
  return (bits & 0x7f800000u) == 0x7f800000u;
}

static inline bool all_finite(const float* values, int64_t n) {
  uint32_t strange = 0;  // its top bit, where all bits of an exponent were set: a form that compilers make vectors of
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    strange |= (bits & 0x7f800000u) + 0x00800000u;
  }
  return strange >> 31 == 0;
}
