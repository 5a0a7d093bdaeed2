// Numbers into blocks: how matrices are rounded while they are loaded. The blocks are those that ggml makes of the same numbers.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "blocks.h"

/** The scale of a block; not a number where one of its numbers is not finite, so that the model says so. */
inline void put_scale(float d, bool finite, uint8_t* block) {
  const uint16_t half = to_fp16(finite ? d : std::numeric_limits<float>::quiet_NaN());
  std::memcpy(block, &half, sizeof half);
}

/** Added before what lies behind the point is cut off: 0.5 would round its neighbour below up, too. */
constexpr float kHalf = 0x1.fffffep-2f;

/** q = x / d to nearest, halves away from zero; d makes the largest number 127. */
inline void quantise_q8_0(const float* x, uint8_t* block) {
  float most = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    most = std::fmax(most, std::fabs(x[i]));
    finite &= std::fabs(x[i]) <= std::numeric_limits<float>::max();
  }
  const float d = most / 127;
  const float inverse = d > 0 && finite ? 1 / d : 0;
  put_scale(d, finite, block);
  for (int i = 0; i < 32; ++i) {
    const float y = finite ? x[i] * inverse : 0;
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(y + (y < 0 ? -kHalf : kHalf)));
  }
}

/** q = x / d + 8 to nearest, at most 15; d makes the number of largest magnitude 0, which is -8. */
inline void quantise_q4_0(const float* x, uint8_t* block) {
  float most = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
    finite &= std::fabs(x[i]) <= std::numeric_limits<float>::max();
  }
  const float d = most / -8;
  const float inverse = d != 0 && finite ? 1 / d : 0;
  put_scale(d, finite, block);
  const auto q = [&](int i) {
    const int level = finite ? static_cast<int>(x[i] * inverse + 8.5f) : 8;
    return static_cast<uint8_t>(level > 15 ? 15 : level);
  };
  for (int i = 0; i < 16; ++i) block[2 + i] = static_cast<uint8_t>(q(i) | q(i + 16) << 4);
}

/** One block of a format that slots have. */
inline void quantise(int dtype, const float* x, uint8_t* block) {
  switch (dtype) {
    case kDtypeQ8_0: return quantise_q8_0(x, block);
    case kDtypeQ4_0: return quantise_q4_0(x, block);
  }
}
