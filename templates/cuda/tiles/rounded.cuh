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

/** Keys and values of the prompt, which lie in `positions`, go to the cache, and become what it says of them. A warp takes a few at a time. */
DEVICE void round_positions(const Block& b, unsigned* positions, char* cached) {
  constexpr int kAtOnce = 4, kWords = kHeadPad / 2;
  const int units = b.tokens() * kKvHeads, stride = b.count() * kWarps;
  const auto position_of = [&](int unit) { return b.position() + unit / kKvHeads; };
  const auto row_of = [&](int unit) { return size_t(unit % kKvHeads) * b.args.pass.context + position_of(unit); };
  for (int first = b.index() * kWarps + warp(); first < units; first += stride * kAtOnce) {
    HeadVector<false> keys[kAtOnce], values[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int unit = min(first + i * stride, units - 1);
      const unsigned* const from = positions + row_of(unit) * kPositionWords;
#pragma unroll
      for (int j = 0; j < kPairSlots; ++j) {
        const int pair = min(pair_at(j), kWords - 1);  // twice the last one changes nothing
        keys[i].w[j] = from[cache_word(0, pair, position_of(unit))];
        values[i].w[j] = from[cache_word(kHeadPad / 8, pair, position_of(unit))];
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int unit = first + i * stride;
      if (unit >= units) break;
      const ScaledRow row(keys[i], values[i]);
      row.store(cached + row_of(unit) * ::kRowBytes, position_of(unit));
      unsigned* const to = positions + row_of(unit) * kPositionWords;
#pragma unroll
      for (int j = 0; j < kPairSlots; ++j) {
        if (pair_at(j) >= kWords) break;
        to[cache_word(0, pair_at(j), position_of(unit))] = keys[i].w[j];
        to[cache_word(kHeadPad / 8, pair_at(j), position_of(unit))] = values[i].w[j];
      }
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
