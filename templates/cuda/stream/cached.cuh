// How a position lies in the KV cache: its key, then its value, as numbers or as codes of a byte with the scale of each behind them.
//
// Numbers lie in chunks of 16 bytes that are swizzled so that eight positions lie in different banks. With codes a position has an odd number
// of chunks, so that they do as they are.
#pragma once
#include <cfloat>

#include "heads.cuh"

/** True where numbers of the cache are codes that share a scale, one for each key and each value of a head. */
constexpr bool kScaledCache = std::is_same_v<Cache, int8_t>;
constexpr int kPadSlots = divide_up(kHeadPad / 2, 32);  // pairs of a padded head that a lane has

/** Chunk `chunk` of a position's row of numbers lies at this chunk. */
DEVICE int swizzled(int chunk, int position) { return chunk ^ ((position & 1) << 2 | (position >> 1 & 3)); }

/** Where chunk `chunk` lies, more than the one whose place, swizzled, is `from`: of rows that begin at 128 bytes. */
DEVICE uint32_t chunks_behind(uint32_t from, int chunk) { return (from ^ chunk % 8 * 16) + chunk / 8 * 128; }

/** A key and a value in the hands of a warp, as numbers of the cache. */
struct PlainRow {
  unsigned key[kPairSlots], value[kPairSlots];

  template <bool Squares>
  DEVICE PlainRow(const HeadVector<Squares>& k, const HeadVector<false>& v) {
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) key[i] = k.w[i], value[i] = v.w[i];
  }

  DEVICE void store(char* row, int position) const {
#pragma unroll
    for (int i = 0; i < kPadSlots; ++i) {
      const int pair = pair_at(i);
      if (pair >= kHeadPad / 2) break;
      const bool exists = i < kPairSlots && pair < kPairs;
      const int at = swizzled(pair / 4, position) * 16 + pair % 4 * 4;
      const int value_at = swizzled(kHeadPad / 8 + pair / 4, position) * 16 + pair % 4 * 4;
      *reinterpret_cast<unsigned*>(row + at) = exists ? key[i < kPairSlots ? i : 0] : 0;
      *reinterpret_cast<unsigned*>(row + value_at) = exists ? value[i < kPairSlots ? i : 0] : 0;
    }
  }
};

/** What codes are multiplied by, so that the largest becomes 127: of a key or of a value. */
struct CodeScale {
  float scale, inverse;

  /** @param most the largest, as bits of a float. One that is not finite makes the scale none, and with it all numbers */
  DEVICE explicit CodeScale(unsigned most) {
    constexpr unsigned kInfinity = 0x7f800000;
    scale = most < kInfinity ? __uint_as_float(most) / 127 : __uint_as_float(0x7fffffff);
    inverse = scale >= FLT_MIN ? 1 / scale : 0;  // of nothing but zeros, or of too little: all become 0
  }

  DEVICE static unsigned largest(unsigned most, unsigned pair) {
    const float2 x = pair_of(pair);
    return max(most, max(__float_as_uint(x.x) & 0x7fffffff, __float_as_uint(x.y) & 0x7fffffff));
  }

  /** The codes of a pair, 16 bits apart; the pair becomes the numbers that they stand for. */
  DEVICE unsigned round(unsigned& pair) const {
    const float2 x = pair_of(pair);
    const float first = rintf(x.x * inverse), second = rintf(x.y * inverse);
    pair = pair_word(first * scale, second * scale);
    return (int(first) & 0xff) | (int(second) & 0xff) << 16;
  }
};

/** The same as codes. Which element a byte of 16 is: of keys 0 2 1 3 of every four, which become pairs in the order of queries; of values
 *  0 8 1 9 ..., whose halves are rows r and r + 8 of a matrix. */
struct ScaledRow {
  static constexpr int kScalesAt = 2 * kHeadPad;           // bytes from the beginning of a position: of its key, of its value
  static constexpr int kKeyPartner = 1, kValuePartner = 4;  // pairs whose codes share a word
  unsigned key[kPairSlots], value[kPairSlots];              // words of four codes, where a lane has the first pair of a word
  float2 scales;

  /** Rounds both, and makes of them what the row says. */
  template <bool Squares>
  DEVICE ScaledRow(HeadVector<Squares>& k, HeadVector<false>& v) {
    scales.x = round(k.w, key, kKeyPartner);
    scales.y = round(v.w, value, kValuePartner);
  }

  /** Pairs of a vector become codes with the scale that is returned, and then the numbers that these stand for. By one warp. */
  DEVICE static float round(unsigned (&w)[kPairSlots], unsigned (&codes)[kPairSlots], int partner) {
    unsigned most = 0;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) most = CodeScale::largest(most, w[i]);
    asm volatile("redux.sync.max.u32 %0, %0, 0xffffffff;" : "+r"(most));
    const CodeScale by(most);
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      const unsigned both = by.round(w[i]);
      codes[i] = both | __shfl_xor_sync(~0u, both, partner) << 8;
    }
    return by.scale;
  }

  DEVICE void store(char* row, int) const {
#pragma unroll
    for (int i = 0; i < kPadSlots; ++i) {
      const int pair = pair_at(i);
      if (pair >= kHeadPad / 2) break;
      if ((pair & kKeyPartner) == 0) *reinterpret_cast<unsigned*>(row + pair / 2 * 4) = key[i < kPairSlots ? i : 0];
      if ((pair & kValuePartner) == 0) *reinterpret_cast<unsigned*>(row + kHeadPad + (pair / 8 * 4 + pair % 4) * 4) = value[i < kPairSlots ? i : 0];
    }
    if (lane() == 0) *reinterpret_cast<float4*>(row + kScalesAt) = make_float4(scales.x, scales.y, 0, 0);
  }
};

/** A key and a value as the cache has them. */
using CachedRow = std::conditional_t<kScaledCache, ScaledRow, PlainRow>;
