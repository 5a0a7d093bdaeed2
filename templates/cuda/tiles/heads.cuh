// Queries and keys of every token: their norm, their rotation, and the cache. A warp has a token's key, its value and the queries that share them.
#pragma once
#include "cells.cuh"
#include "stream/heads.cuh"

namespace tiles {

/** A head's vector as words of pairs, lane by lane; zeros behind its end. */
struct HeadWords {
  unsigned w[kPairSlots];

  DEVICE explicit HeadWords(const unsigned* from) {
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) w[i] = pair_at(i) < kPairs ? from[pair_at(i)] : 0;
  }

  /** Word of a pair, or 0 behind the end. */
  DEVICE unsigned at(int i) const { return i < kPairSlots && pair_at(i) < kPairs ? w[i < kPairSlots ? i : 0] : 0; }

  /** Norm with weights [kHeadDim], unless there are none, and rotation by cos and sin of its position. */
  DEVICE void turn(const Vector* weights, const float2* by) {
    float square = 0;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      const float2 x = pair_of(w[i]);
      square = fmaf(x.x, x.x, fmaf(x.y, x.y, square));
    }
    const float factor = kQkNorm ? rsqrtf(warp_sum(square) * (1.0f / kHeadDim) + kNormEps) : 1.0f;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      const int pair = min(pair_at(i), kPairs - 1);
      float2 x = pair_of(w[i]);
      if constexpr (kQkNorm) x.x *= factor * to_float(weights[pair]), x.y *= factor * to_float(weights[pair + kPairs]);
      x = rotated(x, by[pair]);
      w[i] = pair_word(x.x, x.y);
    }
  }
};

/** Cosine and sine of every pair at a position, [kPairs]. */
DEVICE const float2* rotations_of(const Block& b, int layer, int position) {
  return reinterpret_cast<const float2*>(b.args.pass.rope + size_t(turned_by(layer, position)) * kHeadDim);
}

/** Word `word` of row `row` of the positions is the pair of a key here, or of a value behind the keys: swizzled as decoding reads it. */
DEVICE int cache_word(int chunk, int word, int position) { return swizzled(chunk + word / 4, position) * 4 + word % 4; }

/**
 * Queries of all tokens, normed and rotated, to `queries` [tokens][kQHeads][kHeadPad]; keys, normed and rotated, and values to the positions of
 * the layer. `qkv` is [tokens][kQkvRows] in the order of the stream.
 */
DEVICE void turn_heads(const Block& b, const Wire* qkv, Wire* queries, Wire* positions, const HeadNorms& norms, int layer) {
  if (b.feeds) return;
  constexpr int kWords = kHeadPad / 2;
  for (int unit = b.index() * kWarps + warp(); unit < b.tokens() * kKvHeads; unit += b.count() * kWarps) {
    const int token = unit / kKvHeads, head = unit % kKvHeads, position = b.position() + token;
    const unsigned* const row = reinterpret_cast<const unsigned*>(qkv + size_t(token) * kQkvRows);
    const float2* const by = rotations_of(b, layer, position);
    HeadWords key(row + key_word(head));
    const HeadWords value(row + value_word(head));
    key.turn(norms.key, by);
    unsigned* const cached = reinterpret_cast<unsigned*>(positions) + (size_t(head) * b.args.pass.context + position) * (2 * kWords);
#pragma unroll
    for (int i = 0; i < divide_up(kWords, 32); ++i) {
      if (pair_at(i) >= kWords) break;
      cached[cache_word(0, pair_at(i), position)] = key.at(i);
      cached[cache_word(kHeadPad / 8, pair_at(i), position)] = value.at(i);
    }
    for (int g = 0; g < kGroup; ++g) {
      const int q = head * kGroup + g;
      HeadWords query(row + query_word(q));
      query.turn(norms.query, by);
      unsigned* const to = reinterpret_cast<unsigned*>(queries) + (size_t(token) * kQHeads + q) * kWords;
#pragma unroll
      for (int i = 0; i < divide_up(kWords, 32); ++i)
        if (pair_at(i) < kWords) to[pair_at(i)] = query.at(i);
    }
  }
}

}  // namespace tiles
