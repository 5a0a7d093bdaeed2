// Numbers into blocks: how matrices are rounded while they are loaded. Blocks of int8, and of int4 with a minimum, are those that ggml makes of the same
// numbers; those of int4 are of its layout, with scales that lose less. Those of fp8 have numbers of e4m3, and such scales too.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "blocks.h"

/** The scale of a block; not a number where one of its numbers is not finite, so that the model says so. */
inline void put_scale(float d, bool finite, uint8_t* block) {
  put_half(finite ? d : std::numeric_limits<float>::quiet_NaN(), block);
}

using Four = float __attribute__((vector_size(16)));
using FourInts = int32_t __attribute__((vector_size(16)));

/** What blocks of fp8 keep of a scale, so that of rows of small numbers, too, it is no subnormal fp16. */
constexpr float kKeptF8 = 256;

/** Bits of the numbers of e4m3 nearest to four of at most 448 and a little, without their signs, ties to even. */
inline FourInts f8_sizes(Four x) {
  const FourInts size = reinterpret_cast<FourInts>(x) & 0x7fffffff;
  // 2^14 has steps of 2^-9, as the smallest numbers have; of others all but three bits of the fraction are rounded away.
  const FourInts small = reinterpret_cast<FourInts>(reinterpret_cast<Four>(size) + 0x1p14f) - 0x46800000;
  const FourInts normal = ((size + 0x7ffff + (size >> 20 & 1)) >> 20) - (120 << 3);
  return size < 0x3c800000 ? small : normal;
}

/** A block of numbers in the unit of their scale. */
inline void put_f8(const Four* numbers, float scale, bool finite, uint8_t* block) {
  put_scale(kKeptF8 * scale, finite, block);
  for (int i = 0; i < 8; ++i) {
    const FourInts codes = f8_sizes(numbers[i]) | (reinterpret_cast<FourInts>(numbers[i]) >> 24 & 0x80);
    for (int j = 0; j < 4; ++j) block[2 + 4 * i + j] = static_cast<uint8_t>(codes[j]);
  }
}

/** A block of Q4_1: numbers are code * scale + least. */
inline void put_codes(const int* codes, float scale, float least, bool finite, uint8_t* block) {
  put_scale(scale, finite, block);
  put_half(finite ? least : 0, block + 2);
  for (int i = 0; i < 16; ++i) block[4 + i] = static_cast<uint8_t>(codes[i] | codes[i + 16] << 4);
}

/** A block of levels that are known, with their scale; `zero` is what the codes are more, where a block has codes. */
inline void put_block(int dtype, const float* levels, float scale, int zero, uint8_t* block) {
  bool finite = std::fabs(scale) <= std::numeric_limits<float>::max();
  if (dtype == kDtypeF8_block) {
    Four numbers[8];
    std::memcpy(numbers, levels, sizeof numbers);
    for (int i = 0; i < 32; ++i) finite &= levels[i] == levels[i];
    return put_f8(numbers, scale, finite, block);
  }
  const auto level = [&](int i) { return static_cast<int>(levels[i]); };
  if (dtype == kDtypeQ4_1) {
    int codes[32];
    for (int i = 0; i < 32; ++i) codes[i] = level(i) + zero;
    return put_codes(codes, scale, -scale * static_cast<float>(zero), finite, block);
  }
  put_scale(scale, finite, block);
  if (dtype == kDtypeQ8_0) {
    for (int i = 0; i < 32; ++i) block[2 + i] = static_cast<uint8_t>(level(i));
  } else {
    for (int i = 0; i < 16; ++i) block[2 + i] = static_cast<uint8_t>((level(i) + 8) | (level(i + 16) + 8) << 4);
  }
}

/** Added before what lies behind the point is cut off: 0.5 would round its neighbour below up, too. */
constexpr float kHalf = 0x1.fffffep-2f;

/** 32 numbers, with the size of the largest, where all are finite. */
struct Numbers {
  Four of[8];
  float most;
  bool finite;
  explicit Numbers(const float* x) {
    std::memcpy(of, x, sizeof of);
    Four sizes{};
    FourInts fine{-1, -1, -1, -1};
    for (const Four& four : of) {
      const Four size = four < 0 ? -four : four;
      sizes = size > sizes ? size : sizes;
      fine &= size <= std::numeric_limits<float>::max();
    }
    finite = (fine[0] & fine[1] & fine[2] & fine[3]) != 0;
    most = std::max(std::max(sizes[0], sizes[1]), std::max(sizes[2], sizes[3]));
  }
};

/** q = x / d to nearest, halves away from zero; d makes the largest number 127. */
inline void quantise_q8_0(const float* x, uint8_t* block) {
  const auto [numbers, most, finite] = Numbers(x);
  const float d = most / 127;
  const float inverse = d > 0 ? 1 / d : 0;
  put_scale(d, finite, block);
  for (int i = 0; i < 8; ++i) {
    const Four y = finite ? numbers[i] * inverse : Four{};
    const FourInts levels = __builtin_convertvector(y + (y < 0 ? Four{} - kHalf : Four{} + kHalf), FourInts);
    for (int j = 0; j < 4; ++j) block[2 + 4 * i + j] = static_cast<uint8_t>(levels[j]);
  }
}

/** The number of a block that is its largest, on the grid of q4_0: sums of 32 of them, times levels, are at most 2^24, and exact in any order. */
constexpr float kGrid = 0x1p16f;

/** Where the largest number of a block may go, in steps: past -8 it is cut off, and all others have finer steps. Eighths: their products
 *  with numbers of the grid are exact, so that all compilers give the same bits. A largest number at 7 loses no less than one at -7. */
constexpr float kEnds[] = {-8.875f, -8.5f, -8.125f, -7.75f, -7.25f};

inline Four whole(Four numbers) { return __builtin_convertvector(__builtin_convertvector(numbers, FourInts), Four); }

/** The nearest levels, from -8 to 7. */
inline Four levels_of(Four numbers, float step) {
  const Four above = whole(numbers * step + 8.5f);
  return (above < 15 ? above : Four{15, 15, 15, 15}) - 8;
}

/** Over a block, of products of a number with its level, and of squares of levels. */
struct LevelSums {
  float products, squares;
  /** Of the block's squares, what is left of them in its levels with the scale of least squared error, which is products / squares. */
  double kept() const { return static_cast<double>(products) * products / squares; }
};

inline LevelSums level_sums(const Four* grid, float step) {
  Four products{}, squares{};
  for (int i = 0; i < 8; ++i) {
    const Four levels = levels_of(grid[i], step);
    products += grid[i] * levels;
    squares += levels * levels;
  }
  return {products[0] + products[1] + products[2] + products[3], squares[0] + squares[1] + squares[2] + squares[3]};
}

/** Nearest levels for the largest number at one of kEnds, with the scale of least squared error for them: those that lose least. */
inline void quantise_q4_0(const float* x, uint8_t* block) {
  float most = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
    finite &= std::fabs(x[i]) <= std::numeric_limits<float>::max();
  }
  Four grid[8] = {};
  LevelSums best{0, 1};
  float step = 0;
  // The scale of smaller numbers is 0 in fp16.
  if (finite && std::fabs(most) >= 0x1p-24f) {
    std::memcpy(grid, x, sizeof grid);
    for (Four& numbers : grid) numbers = whole(numbers * (kGrid / most));
    for (const float end : kEnds) {
      const LevelSums sums = level_sums(grid, end / kGrid);
      if (sums.kept() <= best.kept()) continue;
      best = sums;
      step = end / kGrid;
    }
  }
  float levels[32];
  for (int i = 0; i < 8; ++i) {
    const Four four = levels_of(grid[i], step);
    std::memcpy(levels + 4 * i, &four, sizeof four);
  }
  put_block(kDtypeQ4_0, levels, best.products / best.squares * (most / kGrid), 8, block);
  if (!finite) put_scale(0, false, block);
}

/** The smallest number at 0 and the largest at 15, all others to nearest. */
inline void quantise_q4_1(const float* x, uint8_t* block) {
  float least = x[0], most = x[0];
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    least = std::min(least, x[i]);
    most = std::max(most, x[i]);
    finite &= std::fabs(x[i]) <= std::numeric_limits<float>::max();
  }
  const float d = (most - least) / 15;
  const float inverse = finite && d >= 0x1p-25f ? 1 / d : 0;  // smaller ones are 0 in fp16
  int codes[32];
  for (int i = 0; i < 32; ++i) {
    const float y = finite ? (x[i] - least) * inverse : 0;
    codes[i] = std::min(15, static_cast<int>(y + 0.5f));
  }
  put_codes(codes, d, least, finite, block);
}

/** Where the largest number of a block of fp8 may go, in sixteenths: over an octave, since numbers just above a power of two lose most. All are numbers of
 *  e4m3. Products with numbers of the grid are exact. */
constexpr float kTops[] = {28, 26, 24, 22, 20, 18, 16, 15};

/** Squares of what numbers of the grid lose, in 32nds of the unit of e4m3, with the largest at `top`: at most 512 each, so that sums are exact in any order. */
inline float f8_loss(const Four* grid, float top) {
  Four squares{};
  for (int i = 0; i < 8; ++i) {
    const Four y = grid[i] * (top * (16 / kGrid)), size = y < 0 ? -y : y;
    const FourInts code = f8_sizes(y);
    const Four subnormal = __builtin_convertvector(code, Four) * 0x1p-9f;
    const Four nearest = code < 8 ? subnormal : reinterpret_cast<Four>((code + (120 << 3)) << 20);
    const Four lost = whole((size - nearest) * 32);
    squares += lost * lost;
  }
  return squares[0] + squares[1] + squares[2] + squares[3];
}

/** The nearest numbers of e4m3, ties to even, with the largest at the one of kTops that loses least. */
inline void quantise_f8(const float* x, uint8_t* block) {
  Numbers numbers(x);
  // What is kept of the scale of smaller numbers is 0.
  if (!numbers.finite || numbers.most <= 0x1p-24f) {
    for (Four& four : numbers.of) four = Four{};
    return put_f8(numbers.of, 0, numbers.finite, block);
  }
  Four grid[8];
  for (int i = 0; i < 8; ++i) grid[i] = whole(numbers.of[i] * (kGrid / numbers.most));
  double least = std::numeric_limits<double>::infinity();
  float best = 0;
  for (const float top : kTops) {
    const double loss = static_cast<double>(f8_loss(grid, top)) / (top * top);
    if (loss >= least) continue;
    least = loss;
    best = top;
  }
  const float d = numbers.most / (16 * best), inverse = 1 / d;
  for (Four& four : numbers.of) four *= inverse;
  put_f8(numbers.of, d, true, block);
}

/** One block of a format that slots have. */
inline void quantise(int dtype, const float* x, uint8_t* block) {
  switch (dtype) {
    case kDtypeQ8_0: return quantise_q8_0(x, block);
    case kDtypeQ4_0: return quantise_q4_0(x, block);
    case kDtypeQ4_1: return quantise_q4_1(x, block);
    case kDtypeF8_block: return quantise_f8(x, block);
  }
}
