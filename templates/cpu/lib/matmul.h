// Products of stored rows with the gathered input.
//
// One token is a stream: rows are read once, in order, at the speed of memory. More tokens are a product of tiles:
// kTileRows rows stay in the L2 cache while all tokens pass, kChunk columns at a time.
// Tokens whose drafts are checked are streams that share their loads: their sums are those of one token. Rows of sequences are products of tiles, be it one.
// Every (row, token) has its own accumulators and one order of summation, wherever its row lies in a tile.
#pragma once
#include "lib/blocks.h"
#include "lib/input.h"
#include "lib/numbers.h"
#include "lib/team.h"

/** Rows of one register block with so many tokens: up to twelve sums in sixteen vector registers; AVX-512 has 32, and 24 sums. */
DEVICE constexpr int block_rows(int tokens) { return tokens <= 2 || kLanes == 16 ? 4 : 3; }
/** out[t * out_stride + r] (+)= dot(row r, token t) over `steps` steps; input holds T interleaved tokens. A function of its own, whose sums
 *  never lie in memory: one Zen 3 core, K = 1024 and 64 tokens, then gives 82 GFlop/s for int4 in the place of 62, 78 for int8 in that of 70. */
template <class Step, int R, int T, class W>
NOINLINE void dot_block(const W* rows, int64_t row_stride, const float* input, int steps, float* out, int out_stride, bool add) {
  Vec sums[T][R] = {};
  for (int step = 0; step < steps; ++step) {
    // The next rows, from memory or from the L2 cache. One Zen 3 core, bf16 from memory, 1, 4, 8 and 16 tokens: 11, 41, 53 and 62 GFlop/s in the
    // place of 7, 25, 33 and 48; 64 tokens 5 %, there and with AVX-512.
    for (int r = 0; r < R; ++r) __builtin_prefetch(rows + step * kStep + (R + r) * row_stride);
    for (int part = 0; part < Step::parts; ++part, input += T * kLanes) {
      typename Step::Part w[R];
      for (int r = 0; r < R; ++r) w[r] = Step::weights(rows + step * kStep + r * row_stride, part);
      for (int t = 0; t < T; ++t) {
        const typename Step::Part x = Step::input(input + t * kLanes);
        for (int r = 0; r < R; ++r) sums[t][r] = multiply_add(w[r], x, sums[t][r]);
      }
    }
  }
  static_assert(R <= 4);
  // Tokens whose sums are added up in one vector; those left over by themselves, in the same order.
  constexpr int together = kLanes / 4, whole = kLanes == 16 && R == 4 ? T / together * together : 0;
  const auto write = [&](float* to, Sums four) {
    Sums before = {};
    if (add) memcpy(&before, to, sizeof before);
    four = before + four;
    memcpy(to, &four, sizeof four);
  };
  for_each<whole / together>([&](auto group) {
    Vec each[kLanes];
    for_each<kLanes>([&](auto i) { each[i] = sums[group * together + i / 4][i % 4]; });
    const Vec all = sum_lanes(each);
    for_each<together>([&](auto i) {
      Sums four;
      memcpy(&four, (const float*)&all + 4 * i, sizeof four);
      write(out + (group * together + i) * out_stride, four);
    });
  });
  for_each<T, whole>([&](auto t) {
    const Vec none = {};
    const Sums four = sum_each(sums[t][0], R > 1 ? sums[t][1 % R] : none, R > 2 ? sums[t][2 % R] : none, R > 3 ? sums[t][3 % R] : none);
    float* const to = out + t * out_stride;
    if constexpr (R % 4 == 0) {
      write(to, four);
    } else {
      for (int i = 0; i < R; ++i) to[i] = add ? to[i] + four[i] : four[i];
    }
  });
}

/** dot_block of any number of rows with a group of up to T tokens. */
template <class Step, int T, class W>
DEVICE void dot_group(int tokens, const W* rows, int64_t row_stride, int row_count, const float* input, int steps, float* out,
                      int out_stride, bool add) {
  if constexpr (T > 1) {
    if (tokens < T) return dot_group<Step, T - 1>(tokens, rows, row_stride, row_count, input, steps, out, out_stride, add);
  }
  constexpr int together = block_rows(T);
  int row = 0;
  for (; row + together <= row_count; row += together) {
    dot_block<Step, together, T>(rows + row * row_stride, row_stride, input, steps, out + row, out_stride, add);
  }
  for (; row < row_count; ++row) {
    dot_block<Step, 1, T>(rows + row * row_stride, row_stride, input, steps, out + row, out_stride, add);
  }
}

/** The same with all tokens, columns [column, column + steps * kStep) of `width`. */
template <class Step, class W>
DEVICE void dot_tile(const W* rows, int64_t row_stride, int row_count, const float* input, int width, int tokens, int column,
                     int steps, float* out, int out_stride, bool add) {
  for (int token = 0; token < tokens; token += kTokenGroup) {
    const int group = smaller(kTokenGroup, tokens - token);
    const float* x = input + (int64_t)token * input_floats<Step>(width) + (int64_t)group * input_floats<Step>(column);
    dot_group<Step, kTokenGroup>(group, rows, row_stride, row_count, x, steps, out + (int64_t)token * out_stride, out_stride, add);
  }
}

/** Tokens computed one by one that share a row's loads: four sums each in 32 vector registers, or in 16. */
constexpr int kStreamTokens = kLanes == 16 ? 6 : 3;

/** out[t * stride] := dot(row, token t), T tokens one by one, each with four accumulators. */
template <int Width, int T, class Row> DEVICE void dot_stream(Row row, const float* input, float* out, int stride) {
  constexpr int steps = Width / kStep;
  const int step_bytes = (int)(place(row + kStep) - place(row));
  Vec sums[T][4] = {};
  for (int step = 0; step < steps; step += 2) {
    for (int s = 0; s < 2 && step + s < steps; ++s) {
      const int i = (step + s) * kStep;
      for (int byte = 0; byte < step_bytes; byte += 64) {
        if (step_bytes % 64 == 0 || s == 0) __builtin_prefetch(place(row + i) + byte + kAhead);
      }
      const Vec first = load_first(row + i), second = load_second(row + i);
      for (int t = 0; t < T; ++t) {
        sums[t][2 * s] = multiply_add(first, load(input + t * Width + i), sums[t][2 * s]);
        sums[t][2 * s + 1] = multiply_add(second, load(input + t * Width + i + kLanes), sums[t][2 * s + 1]);
      }
    }
  }
  for (int t = 0; t < T; ++t) out[t * stride] = sum((sums[t][0] + sums[t][1]) + (sums[t][2] + sums[t][3]));
}

/** The same with up to T tokens. */
template <int Width, int T, class W> DEVICE void dot_streams(int tokens, const W* row, const float* input, float* out, int stride) {
  if constexpr (T > 1) {
    if (tokens < T) return dot_streams<Width, T - 1>(tokens, row, input, out, stride);
  }
  dot_stream<Width, T>(row, input, out, stride);
}

/** epilogue(row, token, y) as matmul's, of rows that are multiplied as numbers. */
template <int width, int Parts, class W, class Epilogue>
DEVICE void matmul_numbers(Block& b, const W* w, Range rows, int tokens, Epilogue&& epilogue) {
  using Numbers = Rows<W, width>;
  Numbers from(w);
  if (tokens == 1 && one_by_one(b, tokens)) {
    for (int row = rows.begin; row < rows.end; ++row) {
      float y[Parts];
      for (int p = 0; p < Parts; ++p) dot_stream<width, 1>(from.once(row * Parts + p), b.scratch, y + p, 1);
      epilogue(row, 0, y);
    }
    return;
  }
  if (one_by_one(b, tokens)) {
    const int groups = (tokens + kStreamTokens - 1) / kStreamTokens;
    for (int row = rows.begin; row < rows.end; ++row) {
      float y[kPassTokens][Parts];
      for (int p = 0; p < Parts; ++p) {
        const auto* const numbers = from.row(row * Parts + p);
        for (int group = 0, first = 0, next; group < groups; ++group, first = next) {
          next = tokens * (group + 1) / groups;
          dot_streams<width, kStreamTokens>(next - first, numbers, b.scratch + (int64_t)first * width, y[first] + p, Parts);
        }
      }
      for (int token = 0; token < tokens; ++token) epilogue(row, token, y[token]);
    }
    return;
  }
  constexpr int tile = Parts < Numbers::tile_rows ? Numbers::tile_rows / Parts : 1;
  float sums[kPassTokens * tile * Parts];
  for (int row = rows.begin; row < rows.end; row += tile) {
    const int count = smaller(tile, rows.end - row);
    for (int column = 0; column < width; column += Numbers::chunk) {
      const int columns = smaller(Numbers::chunk, width - column);
      dot_tile<Shared<typename Numbers::Number>>(from.tile(row * Parts, count * Parts, column, columns), Numbers::stride, count * Parts, b.scratch, width,
                                                 tokens, column, columns / kStep, sums, tile * Parts, column > 0);
    }
    for (int token = 0; token < tokens; ++token) {
      for (int i = 0; i < count; ++i) {
        float y[Parts];
        for (int p = 0; p < Parts; ++p) y[p] = sums[(token * tile + i) * Parts + p];
        epilogue(row + i, token, y);
      }
    }
  }
}

/** epilogue(row, token, y) for every row in rows and token in [0, tokens): y[p] = dot(row (row * Parts + p) of w, input of token). */
template <int K, int Parts, class W, class Epilogue>
DEVICE void matmul(Block& b, const W* w, Range rows, int tokens, Epilogue&& epilogue) {
  if constexpr (kWhole<W>) matmul_blocks<padded(K) / 32, Parts>((const BlockInput*)b.scratch, w, rows, tokens, epilogue);
  else matmul_numbers<padded(K), Parts>(b, w, rows, tokens, epilogue);
}

/** The next rows come from memory as they are read; there is nothing to start early. */
template <int K, int Parts, class W> DEVICE void prefetch_rows(Block&, const W*, Range) {}
