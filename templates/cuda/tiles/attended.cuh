// What attention keeps of the positions that it has seen, and what it has before it.
#pragma once
#include "operands.cuh"
#include "stream/kv_tile.cuh"

namespace tiles {

/** Bytes of a position where attention reads it: numbers, whatever the format of the cache. */
constexpr int kRowBytes = 2 * kHeadPad * int(sizeof(Wire));
constexpr int kKeyTileBytes = kKeyTile * kRowBytes;  // keys and values of a tile of positions
constexpr int kQueryTile = 16 * kWarps;              // tokens of a unit
constexpr int kHeadSteps = kHeadPad / 16;
/** Elements of a value that one product makes. */
constexpr int kValueColumns = !WGMMA ? kHeadPad : kHeadPad % 128 == 0 ? 128 : kHeadPad % 64 == 0 ? 64 : 32;
static_assert(kKeyTile % 16 == 0 && kKeyTiles * kKeyTileBytes <= kSlotsBytes + kResultsBytes, "see codegen/schemes/tiles/sizes.ts");

/** One query head for the tokens of a tile, and the positions that these see: whole tiles of them, the last of which goes beyond the end. */
struct AttendedUnit {
  const char* cached;  // of the kv head
  int layer, head, first_token, begin, end;

  DEVICE AttendedUnit(const Block& b, const Wire* positions, int layer, int head, int first_token)
      : cached(reinterpret_cast<const char*>(positions) + size_t(head / kGroup) * b.args.pass.context * kRowBytes),
        layer(layer),
        head(head),
        first_token(first_token),
        begin(first_seen(layer, b.position() + first_token) / kKeyTile * kKeyTile),
        end(b.position() + min(first_token + kQueryTile, b.tokens())) {}
  DEVICE int tiles() const { return divide_up(end - begin, kKeyTile); }
};

/** The queries of a warp as the matrix operand of 16 rows. */
struct Queries {
  uint32_t x[kHeadSteps][4];

  /** Of tokens first + lane / 4 and 8 behind it; rows are `stride` words apart. */
  DEVICE void load(const unsigned* head, int stride, int first, int tokens) {
    const unsigned* const low = head + size_t(min(first + lane() / 4, tokens - 1)) * stride + lane() % 4;
    const unsigned* const high = head + size_t(min(first + lane() / 4 + 8, tokens - 1)) * stride + lane() % 4;
#pragma unroll
    for (int k = 0; k < kHeadSteps; ++k) {
      x[k][0] = low[k * 8], x[k][1] = high[k * 8];
      x[k][2] = low[k * 8 + 4], x[k][3] = high[k * 8 + 4];
    }
  }
};

/** Which of a tile of positions the queries of this warp see. */
struct Sight {
  int layer, first_query, last_query, at;  // positions of the warp's queries, and of the tile's first

  DEVICE bool all() const { return at + kKeyTile <= first_query + 1 && first_seen(layer, last_query) <= at; }
  DEVICE bool none() const { return at > last_query || at + kKeyTile <= first_seen(layer, first_query); }
  /** Query lane / 4, or the one 8 behind it, sees column `column` of the tile. */
  DEVICE bool of(int half, int column) const {
    const int query = first_query + lane() / 4 + half * 8;
    return at + column <= query && at + column >= first_seen(layer, query);
  }
};

/** Running softmax of a warp's 16 queries; index 0 is of query lane / 4, 1 of the one 8 behind it. */
struct Attended {
  float out[kHeadPad / kValueColumns][kValueColumns / 8][4] = {};  // elements 8 i + 2 (lane % 4) on, of both queries
  float row_max[2] = {kMaskedScore, kMaskedScore}, row_sum[2] = {0, 0};

  /** Scores of a tile become weights; what is in `out` has to be scaled by `rescale`. */
  DEVICE void weigh(float (&score)[kKeyTile / 8][4], const Sight& sight, float (&rescale)[2]) {
    constexpr float kScale = kAttnScale * kLog2e;
    if (!sight.all()) {
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
        for (int c = 0; c < 4; ++c)
          if (!sight.of(c / 2, i * 8 + lane() % 4 * 2 + c % 2)) score[i][c] = kMaskedScore;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = row_max[half];
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i) top = fmaxf(top, fmaxf(score[i][half * 2], score[i][half * 2 + 1]));
      top = quad_max(top);
      const float base = top == kMaskedScore ? 0.0f : top * kScale;  // a masked score weighs 0 in any case
      rescale[half] = exp2_approx(row_max[half] * kScale - base);
      row_max[half] = top;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& s = score[i][half * 2 + c];
          s = exp2_approx(fmaf(s, kScale, -base));
          sum += s;
        }
      row_sum[half] = fmaf(row_sum[half], rescale[half], sum);
    }
  }

  DEVICE void scale(const float (&by)[2]) {
#pragma unroll
    for (auto& part : out)
#pragma unroll
      for (auto& o : part) o[0] *= by[0], o[1] *= by[0], o[2] *= by[1], o[3] *= by[1];
  }

  /** To the input of a product, as the columns of a head. */
  template <class P>
  DEVICE void store(char* to, int head, int first, int tokens) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float factor = __fdividef(1.0f, quad_sum(row_sum[half]));
      const int token = first + lane() / 4 + half * 8;
      if (token >= tokens) continue;
#pragma unroll
      for (int i = 0; i < kHeadPad / 8; ++i) {
        const float(&o)[4] = out[i / (kValueColumns / 8)][i % (kValueColumns / 8)];
        const int element = lane() % 4 * 2;
        if (i * 8 + element >= kHeadDim) continue;
        // Four chunks share a cell: said so that it is computed once for them, or this would be more code than the loop over positions.
        const size_t at = kHeadDim % 8 == 0 ? P::chunk_at(token, unsigned(head) * (kHeadDim / 8) + i) + element * 2 : P::input_at(token, head * kHeadDim + i * 8 + element);
        *reinterpret_cast<unsigned*>(to + at) = pair_word(o[half * 2] * factor, o[half * 2 + 1] * factor);
      }
    }
  }
};

/** Weights of 16 positions as the matrix operand of 16 rows. */
struct Weights {
  uint32_t p[kKeyTile / 16][4];

  DEVICE explicit Weights(const float (&score)[kKeyTile / 8][4]) {
#pragma unroll
    for (int g = 0; g < kKeyTile / 16; ++g) {
      p[g][0] = pair_word(score[2 * g][0], score[2 * g][1]), p[g][1] = pair_word(score[2 * g][2], score[2 * g][3]);
      p[g][2] = pair_word(score[2 * g + 1][0], score[2 * g + 1][1]), p[g][3] = pair_word(score[2 * g + 1][2], score[2 * g + 1][3]);
    }
  }
};

}  // namespace tiles
