// Products of rows in blocks of whole numbers with inputs in 16 bits (bytes.h: in 8), 32 of them to a scale as in the rows: sums of integers are exact, and scaled block by block.
//
// kLanes rows are multiplied together, a lane for each. Of a word, four numbers of a row as they lie, the instruction takes those two apart: an input of
// 32 is stored in that order. A (row, token) adds its blocks one after the other, be it with how many others: its bits are the same in every pass.
#pragma once
#include "lib/bytes.h"

/** Up to kFewTokens read rows as they lie, kRowTokens at a time: the second time from the L1 cache. More read kPanels panels, kPanelTokens at a time.
 *  One Zen 3 core, int4, K = 1024, rows in the cache, 8 and 16 tokens: 104 and 102 GFlop/s as they lie, 102 and 114 of panels; from memory
 *  89 and 85, and 62 and 80. 64 tokens: 115 in panels two by four, 113 four by two, 118 three by three, 117 six by two.
 *  AVX-512 has registers for 16 sums at once. One Zen 5 core, int4 from memory, 16 tokens: 277 GFlop/s in the place of 205, eight at a time; 32 tokens: 291 as they
 *  lie, 245 of panels; 64: 298 and 282, from the cache 314 and 322. */
constexpr int kFewTokens = kLanes == 16 ? 32 : 16;
constexpr int kRowTokens = kLanes == 16 ? 16 : 8;
constexpr int kPanels = 2;
constexpr int kPanelTokens = kLanes == 16 ? 8 : 4;

/** 0 where the pairs of W are its numbers, -1 where they are kOffset more. */
DEVICE constexpr int offset_mask(const int8_block*) { return 0; }
DEVICE constexpr int offset_mask(const int4_block*) { return -1; }
DEVICE constexpr int offset_mask(const int4_asym_block*) { return -1; }

/** use(i, pairs) for the 16 pairs of kLanes rows' blocks, whose starts are `stride` bytes apart. */
template <class Use> DEVICE void for_pairs(const int8_block* rows, int64_t stride, Use&& use) {
  for_each<2>([&](auto half) {
    VecInt words[4];
    load_columns(words, (const uint8_t*)rows->q + 16 * half, stride);
    for_each<4>([&](auto i) {
      use(Constant<8 * half + 2 * i>{}, (VecInt)((VecShort)(words[i] << 8) >> 8));
      use(Constant<8 * half + 2 * i + 1>{}, (VecInt)((VecShort)words[i] >> 8));
    });
  });
}
template <class Use> DEVICE void for_nibbles(const uint8_t* q, int64_t stride, Use&& use) {
  VecInt words[4];
  load_columns(words, q, stride);
  for_each<4>([&](auto i) {
    const VecInt mask = VecInt{} + 0xf000f;
    use(Constant<2 * i>{}, words[i] & mask);
    use(Constant<2 * i + 1>{}, words[i] >> 8 & mask);
    use(Constant<8 + 2 * i>{}, words[i] >> 4 & mask);
    use(Constant<8 + 2 * i + 1>{}, (VecInt)((VecUnsigned)words[i] >> 12));
  });
}
template <class Use> DEVICE void for_pairs(const int4_block* rows, int64_t stride, Use&& use) { for_nibbles(rows->q, stride, use); }
template <class Use> DEVICE void for_pairs(const int4_asym_block* rows, int64_t stride, Use&& use) { for_nibbles(rows->q, stride, use); }

/** out[t * out_stride + lane] := dot(row, token t) of kLanes rows, row_stride blocks apart, with the first T of `tokens`: rows are read once, in order, at
 *  the speed of memory. */
template <int T, class W>
NOINLINE void dot_rows(const W* rows, int64_t row_stride, const InputBlock* input, int tokens, int blocks, float* out, int out_stride) {
  constexpr int ways = T == 1 ? 4 : T == 2 ? 2 : 1;  // sums of a block that are under way at once
  const int64_t stride = row_stride * sizeof(W);
  const char* ahead = (const char*)rows + kLanes * stride;
  Vec totals[T] = {};
  for (int block = 0; block < blocks; ++block, ++rows, input += tokens, ahead += kLanes * sizeof(W)) {
    for (int byte = 0; byte < kLanes * (int)sizeof(W); byte += 64) __builtin_prefetch(ahead + byte);
    VecInt sums[T][ways] = {};
    for_each<T>([&](auto t) { sums[t][0] += input[t].offset & offset_mask(rows); });
    for_pairs(rows, stride, [&](auto i, VecInt pairs) {
      for_each<T>([&](auto t) { sums[t][i % ways] = add_products(pairs, VecInt{} + input[t].pairs[i], sums[t][i % ways]); });
    });
    const Scales of = load_scales(rows, stride);
    for_each<T>([&](auto t) {
      VecInt sum = sums[t][0];
      for (int way = 1; way < ways; ++way) sum += sums[t][way];
      totals[t] = multiply_add(to_floats(sum), of.scale * splat(input[t].scale), totals[t]);
    });
    if constexpr (kAdds<W>) {
      for (int t = 0; t < T; ++t) totals[t] = multiply_add(of.added, splat(input[t].sum), totals[t]);
    }
  }
  for_each<T>([&](auto t) { store(out + t * out_stride, totals[t]); });
}

/** Blocks of a chunk of columns. */
constexpr int kChunkBlocks = 16;

/** kLanes rows of a chunk as they are multiplied, for passes of many tokens: they stay in the L1 cache while all tokens pass. */
struct Panel {
  VecInt pairs[kChunkBlocks][16];
  Scales scales[kChunkBlocks];
  int offset_mask;
};

template <class W> NOINLINE void unpack(Panel& panel, const W* rows, int64_t row_stride, int blocks) {
  const int64_t stride = row_stride * sizeof(W);
  panel.offset_mask = offset_mask(rows);
  for (int block = 0; block < blocks; ++block) {
    for_pairs(rows + block, stride, [&](auto i, VecInt pairs) { panel.pairs[block][i] = pairs; });
    panel.scales[block] = load_scales(rows + block, stride);
  }
}

/** Rows that are read next come from memory meanwhile. */
template <class W> DEVICE void ask_for(const W* rows, int64_t row_stride, int row_count, int blocks) {
  for (int row = 0; row < row_count; ++row, rows += row_stride) {
    for (int byte = 0; byte < blocks * (int)sizeof(W); byte += 64) __builtin_prefetch((const char*)rows + byte);
  }
}

/** out[t * out_stride + panel * kLanes + lane] (+)= dot(row, token t) of kPanels panels with the first T of `tokens`. */
template <int T, bool Adds> NOINLINE void dot_panels(const Panel* panels, const InputBlock* input, int tokens, int blocks, float* out, int out_stride, bool add) {
  constexpr int R = kPanels;
  Vec totals[T][R] = {};
  for (int t = 0; add && t < T; ++t) {
    for (int r = 0; r < R; ++r) totals[t][r] = load(out + t * out_stride + r * kLanes);
  }
  for (int block = 0; block < blocks; ++block, input += tokens) {
    VecInt sums[T][R];
    for_each<T>([&](auto t) {
      for_each<R>([&](auto r) { sums[t][r] = VecInt{} + (input[t].offset & panels->offset_mask); });
    });
    for_each<16>([&](auto i) {
      VecInt pairs[R];
      for_each<R>([&](auto r) { pairs[r] = panels[r].pairs[block][i]; });
      for_each<T>([&](auto t) {
        const VecInt x = VecInt{} + input[t].pairs[i];
        for_each<R>([&](auto r) { sums[t][r] = add_products(pairs[r], x, sums[t][r]); });
      });
    });
    for_each<T>([&](auto t) {
      for_each<R>([&](auto r) {
        totals[t][r] = multiply_add(to_floats(sums[t][r]), panels[r].scales[block].scale * splat(input[t].scale), totals[t][r]);
      });
      if constexpr (Adds) {
        for_each<R>([&](auto r) { totals[t][r] = multiply_add(panels[r].scales[block].added, splat(input[t].sum), totals[t][r]); });
      }
    });
  }
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) store(out + t * out_stride + r * kLanes, totals[t][r]);
  }
}

/** Rows of a tile: inputs of a chunk come from the L2 cache for each kPanels of it. */
constexpr int kBlockTile = 96;

/** out[t * out_stride + r] := dot(row r, token t) of row_count rows of `blocks` blocks; `rest` has room for kLanes of them,
 *  and out for whole panels. */
template <class W>
NOINLINE void dot_blocks(const W* rows, int row_count, W* rest, const InputBlock* input, int tokens, int blocks, float* out, int out_stride) {
  const auto lanes = [&](int from) { return rows_from(rows, row_count, rest, from, blocks); };
  if (tokens <= kFewTokens) {
    for (int row = 0; row < row_count; row += kLanes) {
      for_tokens<kRowTokens>(0, tokens, [&, from = lanes(row)](auto count, int first) __attribute__((always_inline)) {
        dot_rows<count>(from, blocks, input + first, tokens, blocks, out + first * out_stride + row, out_stride);
      });
    }
    return;
  }
  Panel panels[kPanels];
  for (int chunk = 0; chunk < blocks; chunk += kChunkBlocks) {
    const int count = smaller(kChunkBlocks, blocks - chunk);
    const InputBlock* const x = input + (int64_t)chunk * tokens;
    for (int row = 0; row < row_count; row += kPanels * kLanes) {
      for (int p = 0; p < kPanels; ++p) unpack(panels[p], lanes(row + p * kLanes) + chunk, blocks, count);
      ask_for(rows + (int64_t)(row + kPanels * kLanes) * blocks + chunk, blocks, kPanels * kLanes, count);
      for_tokens<kPanelTokens>(0, tokens, [&](auto several, int first) __attribute__((always_inline)) {
        dot_panels<several, kAdds<W>>(panels, x + first, tokens, count, out + first * out_stride + row, out_stride, chunk > 0);
      });
    }
  }
}

/** epilogue(row, token, y) as matmul's, of rows of Blocks blocks; the input is BlockInput [Blocks][tokens]. */
template <int Blocks, int Parts, class W, class Epilogue>
DEVICE void matmul_blocks(const BlockInput* input, const W* w, Range rows, int tokens, Epilogue&& epilogue) {
  constexpr int tile = Parts < kBlockTile ? kBlockTile / Parts : 1;
  constexpr int width = (tile * Parts + kPanels * kLanes - 1) / (kPanels * kLanes) * kPanels * kLanes;
  float sums[kPassTokens * width];
  W rest[kLanes * Blocks];
  for (int row = rows.begin; row < rows.end; row += tile) {
    const int count = smaller(tile, rows.end - row);
    dot_blocks(w + (int64_t)row * Parts * Blocks, count * Parts, rest, input, tokens, Blocks, sums, width);
    for (int token = 0; token < tokens; ++token) {
      for (int i = 0; i < count; ++i) {
        float y[Parts];
        for (int p = 0; p < Parts; ++p) y[p] = sums[token * width + i * Parts + p];
        epilogue(row + i, token, y);
      }
    }
  }
}
