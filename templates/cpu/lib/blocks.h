// Rows in blocks: their numbers as vectors, and tiles of rows as plain numbers.
#pragma once
#include "lib/step.h"

/** Bytes that one token's product asks for ahead of itself; rows follow each other in memory, so past its end the next row begins.
 *  Two Zen 3 cores, rows of 1024: 31 to 33 GB/s without, 32 to 36 with 1 KB, 29 to 32 with 2 or 4 KB; 24 with two rows at once. */
constexpr int kAhead = 1024;

/** Vectors of a block. */
constexpr int kBlockParts = 32 / kLanes;

/** Numbers [part * kLanes, (part + 1) * kLanes) of a block, without its scale. */
DEVICE Vec unscaled(const int8_block* p, int part) { return load(p->q + part * kLanes); }
DEVICE Vec unscaled(const int4_block* p, int part) {
  constexpr int half = kBlockParts / 2;
  return load_half(p->q + part % half * kLanes, part / half);
}

/** Blocks of a row that are under way at once, each with sums of its own. */
constexpr int kBlocksInFlight = 4;

/** dot_stream of a row in blocks: what of a block is summed is scaled, not its numbers. */
template <int Width, int T, class W> DEVICE void dot_blocks(const W* row, const float* input, float* out, int stride) {
  constexpr int blocks = Width / 32;
  Vec sums[T][kBlocksInFlight] = {};
  for (int first = 0; first < blocks; first += kBlocksInFlight) {
    // One line for each that is read, at most one too many.
    for (int byte = 0; byte < kBlocksInFlight * (int)sizeof(W); byte += 64) {
      __builtin_prefetch((const char*)(row + first) + byte + kAhead);
    }
    for (int i = 0; i < kBlocksInFlight && first + i < blocks; ++i) {
      const W* const block = row + first + i;
      const float* const x = input + (first + i) * 32;
      const Vec scale = splat(block->scale);
      Vec numbers[kBlockParts];
      for (int part = 0; part < kBlockParts; ++part) numbers[part] = unscaled(block, part);
      for (int t = 0; t < T; ++t) {
        Vec sum = numbers[0] * load(x + t * Width);
        for (int part = 1; part < kBlockParts; ++part) {
          sum = multiply_add(numbers[part], load(x + t * Width + part * kLanes), sum);
        }
        sums[t][i] = multiply_add(scale, sum, sums[t][i]);
      }
    }
  }
  for (int t = 0; t < T; ++t) out[t * stride] = sum((sums[t][0] + sums[t][1]) + (sums[t][2] + sums[t][3]));
}

#if defined(__AVX512BF16__)
DEVICE void unpack_vectors(bf16* to, Vec a, Vec b) {
  const Pairs pairs = pairs_of(a, b);
  memcpy(to, &pairs, sizeof pairs);
}
#else
DEVICE void unpack_vectors(float* to, Vec a, Vec b) {
  store(to, a);
  store(to + kLanes, b);
}
#endif

/** to [rows][width] := numbers of rows in blocks, whose starts are row_stride blocks apart. */
template <class W> DEVICE void unpack(Unpacked* to, const W* rows, int64_t row_stride, int row_count, int width) {
  for (int row = 0; row < row_count; ++row, rows += row_stride) {
    for (int i = 0; i < width / 32; ++i, to += 32) {
      const Vec scale = splat(rows[i].scale);
      for (int part = 0; part < kBlockParts; part += 2) {
        unpack_vectors(to + part * kLanes, unscaled(rows + i, part) * scale, unscaled(rows + i, part + 1) * scale);
      }
    }
  }
}
