// A KV cache of codes, in front of attention: what the cache says of all positions, as numbers that attention reads.
#pragma once
#include "heads.cuh"

namespace tiles {

/** Words of a position's numbers: keys, then values, swizzled as decoding has them where it has numbers. */
constexpr int kPositionWords = kHeadPad;

/** Two chunks of eight numbers, of a key or of a value, from 16 codes that lie one behind the other. */
struct Widened {
  uint4 chunk[2];

  DEVICE Widened(const uint4& codes, bool value, float scale) {
    const auto scaled = [&](unsigned word) {
      const float2 pair = pair_of(word);
      return pair_word(pair.x * scale, pair.y * scale);
    };
    const unsigned words[4] = {codes.x, codes.y, codes.z, codes.w};
    unsigned low[4], high[4];  // of each word
#pragma unroll
    for (int i = 0; i < 4; ++i) low[i] = scaled(from_bytes(words[i])), high[i] = scaled(from_bytes(words[i] >> 8));
    chunk[0] = value ? make_uint4(low[0], low[1], low[2], low[3]) : make_uint4(low[0], high[0], low[1], high[1]);
    chunk[1] = value ? make_uint4(high[0], high[1], high[2], high[3]) : make_uint4(low[2], high[2], low[3], high[3]);
  }
};

/** Positions [first, end) of all heads become numbers. A thread takes a few pieces of 16 codes at a time. */
DEVICE void widen_positions(const Block& b, unsigned* positions, const char* cached, int first, int end) {
  constexpr int kPieces = 2 * kHeadPad / 16, kAtOnce = 4;
  const int stride = b.count() * kThreads, count = (end - first) * kPieces;
  for (int head = 0; head < kKvHeads; ++head) {
    const size_t row = size_t(head) * b.args.pass.context + first;
    for (int from = b.index() * kThreads + int(threadIdx.x); from < count; from += stride * kAtOnce) {
      uint4 codes[kAtOnce];
      float scales[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int at = min(from + i * stride, count - 1), piece = at % kPieces;
        const char* const position = cached + (row + at / kPieces) * ::kRowBytes;
        codes[i] = __ldcs(reinterpret_cast<const uint4*>(position) + piece);
        scales[i] = reinterpret_cast<const float*>(position + ScaledRow::kScalesAt)[piece / (kPieces / 2)];
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int at = from + i * stride, piece = at % kPieces, position = at / kPieces;
        if (at >= count) break;
        const Widened numbers(codes[i], piece >= kPieces / 2, scales[i]);
        uint4* const to = reinterpret_cast<uint4*>(positions + (row + position) * kPositionWords);
#pragma unroll
        for (int c = 0; c < 2; ++c) to[swizzled(piece * 2 + c, first + position)] = numbers.chunk[c];
      }
    }
  }
}

/** A key in half of a warp and its value in the other, as chunks of eight numbers: rounded, and their codes. */
struct RoundedChunks {
  static constexpr int kChunks = kHeadPad / 8, kEach = divide_up(kChunks, 16);
  uint4 numbers[kEach];  // of chunks lane() % 16, and so many and 16 more
  uint2 codes[kEach];
  float scale;

  DEVICE static int chunk(int i) { return lane() % 16 + 16 * i; }
  DEVICE static bool is_value() { return lane() >= 16; }
  /** Where a chunk lies among those of a position. */
  DEVICE static int at(int i, int position) { return swizzled((is_value() ? kChunks : 0) + chunk(i), position); }

  DEVICE void read(const uint4* from, int position) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) numbers[i] = chunk(i) < kChunks ? from[at(i, position)] : make_uint4(0, 0, 0, 0);
  }

  DEVICE void round() {
    unsigned most = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const uint4& x = numbers[i];
      most = CodeScale::largest(CodeScale::largest(CodeScale::largest(CodeScale::largest(most, x.x), x.y), x.z), x.w);
    }
#pragma unroll
    for (int other = 8; other > 0; other /= 2) most = max(most, __shfl_xor_sync(~0u, most, other));
    const CodeScale by(most);
    scale = by.scale;
#pragma unroll
    for (int i = 0; i < kEach; ++i) codes[i] = codes_of(by, numbers[i]);
  }

  /** Half of a word of ScaledRow is of one pair, half of its partner's: the next one of a key, of a value that of the next chunk, whose lane is the next. */
  DEVICE static uint2 codes_of(const CodeScale& by, uint4& x) {
    const unsigned a = by.round(x.x), b = by.round(x.y), c = by.round(x.z), d = by.round(x.w);
    const bool odd = lane() % 2 != 0;
    const unsigned first = __shfl_xor_sync(~0u, odd ? a : c, 1), second = __shfl_xor_sync(~0u, odd ? b : d, 1);
    if (!is_value()) return make_uint2(a | b << 8, c | d << 8);
    return odd ? make_uint2(first | c << 8, second | d << 8) : make_uint2(a | first << 8, b | second << 8);
  }

  DEVICE void store(char* row, uint4* to, int position) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (chunk(i) >= kChunks) break;
      *reinterpret_cast<uint2*>(row + (is_value() ? kHeadPad : 0) + chunk(i) * 8) = codes[i];
      to[at(i, position)] = numbers[i];
    }
    const float of_value = __shfl_sync(~0u, scale, 16);
    if (lane() == 0) *reinterpret_cast<float4*>(row + ScaledRow::kScalesAt) = make_float4(scale, of_value, 0, 0);
  }
};

/** Keys and values of the prompt, which lie in `positions`, go to the cache, and become what it says of them. A warp takes a few at a time. */
DEVICE void round_positions(const Block& b, unsigned* positions, char* cached) {
  constexpr int kAtOnce = 1;
  const int units = b.tokens() * kKvHeads, stride = b.count() * kWarps;
  const auto position_of = [&](int unit) { return b.position() + unit / kKvHeads; };
  const auto row_of = [&](int unit) { return size_t(unit % kKvHeads) * b.args.pass.context + position_of(unit); };
  const auto numbers_of = [&](int unit) { return reinterpret_cast<uint4*>(positions + row_of(unit) * kPositionWords); };
  for (int first = b.index() * kWarps + warp(); first < units; first += stride * kAtOnce) {
    RoundedChunks rows[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int unit = min(first + i * stride, units - 1);
      rows[i].read(numbers_of(unit), position_of(unit));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int unit = first + i * stride;
      if (unit >= units) break;
      rows[i].round();
      rows[i].store(cached + row_of(unit) * ::kRowBytes, numbers_of(unit), position_of(unit));
    }
  }
}

/** Both, for a layer whose prompt's own keys and values lie in `positions` [kKvHeads][context][2][kHeadPad]. */
DEVICE void read_cache(const Block& b, Wire* positions, Cache* cache, int layer) {
  if (b.feeds) return;
  unsigned* const words = reinterpret_cast<unsigned*>(positions);
  char* const cached = reinterpret_cast<char*>(cache);
  round_positions(b, words, cached);
  widen_positions(b, words, cached, first_seen(layer, b.position()) / kKeyTile * kKeyTile, b.position());
}

}  // namespace tiles
