// Causal attention of a prompt over the cache, which has the prompt's own positions too: 16 queries of a head a warp, tiles of positions
// through shared memory, running softmax (flash attention).
#pragma once
#include "operands.cuh"
#include "stream/kv_tile.cuh"

namespace tiles {

constexpr int kKeyTileBytes = kKeyTile * kRowBytes;  // keys and values of a tile of positions
constexpr int kQueryTile = 16 * kWarps;            // tokens of a unit
constexpr int kHeadSteps = kHeadPad / 16;
static_assert(kKeyTile % 16 == 0 && 2 * kKeyTileBytes <= kSlotsBytes + kResultsBytes, "a tile is copied while another is used");

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

/** Running softmax of a warp's 16 queries; index 0 is of query lane / 4, 1 of the one 8 behind it. */
struct Attended {
  float out[kHeadPad / 8][4] = {};  // elements 8 i + 2 (lane % 4) on, of both queries
  float row_max[2] = {kMaskedScore, kMaskedScore}, row_sum[2] = {0, 0};

  /** Adds a tile of positions that begins at `rows`; seen(half, column): whether a query sees that position. */
  template <class Seen>
  DEVICE void add(const Queries& queries, uint32_t rows, int first_position, bool masked, Seen&& seen) {
    const int lane = tiles::lane();
    float score[kKeyTile / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kHeadSteps; ++k)
#pragma unroll
      for (int g = 0; g < kKeyTile / 16; ++g) {
        const int row = g * 16 + lane / 16 * 8 + lane % 8;
        uint32_t keys[4];
        load_matrices(keys, rows + row * kRowBytes + swizzled(k * 2 + lane / 8 % 2, first_position + row) * 16);
        multiply_tile(score[2 * g], queries.x[k][0], queries.x[k][1], queries.x[k][2], queries.x[k][3], keys[0], keys[1]);
        multiply_tile(score[2 * g + 1], queries.x[k][0], queries.x[k][1], queries.x[k][2], queries.x[k][3], keys[2], keys[3]);
      }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = row_max[half];
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& s = score[i][half * 2 + c];
          s = !masked || seen(half, i * 8 + lane % 4 * 2 + c) ? s * (kAttnScale * kLog2e) : kMaskedScore;
          top = fmaxf(top, s);
        }
      top = quad_max(top);
      const float rescale = exp2_approx(row_max[half] - top);
      row_max[half] = top;
      row_sum[half] *= rescale;
#pragma unroll
      for (int i = 0; i < kHeadPad / 8; ++i) out[i][half * 2] *= rescale, out[i][half * 2 + 1] *= rescale;
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& s = score[i][half * 2 + c];
          s = s == kMaskedScore ? 0.0f : exp2_approx(s - top);
          row_sum[half] += s;
        }
    }
#pragma unroll
    for (int g = 0; g < kKeyTile / 16; ++g) {
      const uint32_t p0 = pair_word(score[2 * g][0], score[2 * g][1]), p1 = pair_word(score[2 * g][2], score[2 * g][3]);
      const uint32_t p2 = pair_word(score[2 * g + 1][0], score[2 * g + 1][1]), p3 = pair_word(score[2 * g + 1][2], score[2 * g + 1][3]);
      const int row = g * 16 + lane % 16;
#pragma unroll
      for (int i = 0; i < kHeadPad / 16; ++i) {
        uint32_t values[4];
        load_transposed(values, rows + row * kRowBytes + swizzled(kHeadPad / 8 + i * 2 + lane / 16, first_position + row) * 16);
        multiply_tile(out[2 * i], p0, p1, p2, p3, values[0], values[1]);
        multiply_tile(out[2 * i + 1], p0, p1, p2, p3, values[2], values[3]);
      }
    }
  }

  /** To the input of a product, the head's columns from `column` on. */
  template <class P>
  DEVICE void store(char* to, int column, int first, int tokens) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float factor = __fdividef(1.0f, quad_sum(row_sum[half]));
      const int token = first + lane() / 4 + half * 8;
      if (token >= tokens) continue;
#pragma unroll
      for (int i = 0; i < kHeadPad / 8; ++i) {
        const int element = i * 8 + lane() % 4 * 2;
        if (element < kHeadDim) store_input<P>(to, token, column + element, out[i][half * 2] * factor, out[i][half * 2 + 1] * factor);
      }
    }
  }
};

/** Begins to copy positions [first, first + kKeyTile) of a kv head's cache, zeros from `end` on. */
DEVICE void copy_positions(uint32_t to, const char* cached, int first, int end) {
  constexpr int kPieces = kRowBytes / 16;
  for (int i = int(threadIdx.x); i < kKeyTile * kPieces; i += kThreads) {
    const int row = i / kPieces;
    const bool wanted = first + row < end;
    copy_piece(to + i * 16, cached + size_t(wanted ? first + row : first) * kRowBytes + i % kPieces * 16, wanted);
  }
}

/** Attention of one query head for the tokens of one tile, to the input of product P. */
template <class P>
DEVICE void attend_unit(Block& b, const Wire* queries, char* att, const Cache* cache, int layer, int head, int first_token) {
  const int tokens = b.tokens(), position = b.position();
  const int end = position + min(first_token + kQueryTile, tokens);
  const int begin = first_seen(layer, position + first_token) / kKeyTile * kKeyTile;
  const int first = first_token + warp() * 16, last = min(first + 15, tokens - 1);  // of this warp's queries
  const char* const cached = reinterpret_cast<const char*>(cache) + size_t(head / kGroup) * b.args.pass.context * kRowBytes;
  const uint32_t buffers = shared_address(b.shared);
  Queries mine;
  mine.load(reinterpret_cast<const unsigned*>(queries) + head * (kHeadPad / 2), kQHeads * (kHeadPad / 2), first, tokens);
  Attended attended;
  computing_sync();  // the buffers of the unit before have been read
  copy_positions(buffers, cached, begin, end);
  end_copies();
  int buffer = 0;
#pragma unroll 1
  for (int at = begin; at < end; at += kKeyTile, buffer ^= 1) {
    if (at + kKeyTile < end) copy_positions(buffers + (buffer ^ 1) * kKeyTileBytes, cached, at + kKeyTile, end);
    end_copies();
    wait_copies<1>();
    computing_sync();
    const bool all = at + kKeyTile <= position + first + 1 && first_seen(layer, position + last) <= at;
    const bool none = at > position + last || at + kKeyTile <= first_seen(layer, position + first);
    if (first < tokens && !none)
      attended.add(mine, buffers + buffer * kKeyTileBytes, at, !all, [&](int half, int column) {
        const int query = position + first + lane() / 4 + half * 8;
        return at + column <= query && at + column >= first_seen(layer, query);
      });
    computing_sync();
  }
  wait_copies<0>();
  if (first < tokens) attended.store<P>(att, head * kHeadDim, first, tokens);
}

/** Attention of all heads and tokens: the longest units first, and dealt so that blocks have about as many positions. */
template <class P>
DEVICE void attend(Block& b, const Wire* queries, char* att, const Cache* cache, int layer) {
  if (b.feeds) return;
  const int token_tiles = divide_up(b.tokens(), kQueryTile), units = token_tiles * kQHeads;
  for (int turn = 0; turn * b.count() < units; ++turn) {
    const int unit = snake(turn, b.index(), b.count());
    if (unit >= units) continue;
    attend_unit<P>(b, queries, att, cache, layer, unit % kQHeads, (token_tiles - 1 - unit / kQHeads) * kQueryTile);
  }
}

}  // namespace tiles
