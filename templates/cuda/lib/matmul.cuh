// y = W x for the rows of one block. The weights are the bytes that matter: each is loaded once, as many loads in flight as fit.
#pragma once
#include "buffered.cuh"
#include "one_token.cuh"
#include "tensor.cuh"

// ---- several tokens, 16-bit weights: m16n8k16, the weights as the 16-row operand

/**
 * How several tokens' product is cut: blocks of 32 columns, `slices` warps share a tile of 16 matrix rows and have `slice` blocks each,
 * `wave` of them in flight at once.
 */
template <int K, int Parts>
struct TileCut {
  static constexpr int blocks = padded(K) / 32;
  static constexpr int wanted = blocks >= 256 ? 16 : blocks >= 64 ? 8 : 4;
  static constexpr int slices = wanted < kWarps ? wanted : kWarps;
  static constexpr int slice = divide_up(blocks, slices);
  static constexpr int groups = kWarps / slices;
  static constexpr int wave = divide_up(slice, divide_up(slice, kInFlight < 2 ? 1 : kInFlight / 2));
  static constexpr int rows = 16 / Parts;  // of a tile
  static constexpr bool whole = blocks == slices * slice && slice % wave == 0;
  static_assert(slices * slice >= blocks, "the slices cover each block of columns");
};

/** Within a block of 32 columns lane 4 g + t has columns 8 t .. 8 t + 7 of matrix rows g and g + 8, and of token g: one 16-byte load each. */
template <int K, int Parts, class Epilogue>
DEVICE void matmul_tiles(Block& b, const Matrix* w, Range rows, int tokens, Epilogue& epilogue) {
  using C = TileCut<K, Parts>;
  const int thread = opaque(int(threadIdx.x)), lane = thread % 32, g = lane / 4, t = lane % 4;
  const int group = thread / 32 / C::slices, slice = thread / 32 % C::slices;
  const Matrix* const high = reinterpret_cast<const Matrix*>(b.scratch);
  const Matrix* const low = high + kPassTokens * padded(K);
  float* const sums = shared_sums() + group * C::slices * 128;
  __syncthreads();  // the sums of the matmul before have been read
  const int turns = divide_up(rows.end - rows.begin, C::groups * C::rows);
  int row = rows.begin + group * C::rows;
  for (int turn = 0; turn < turns; ++turn, row += C::groups * C::rows) {
    const int taken = max(0, min(C::rows, rows.end - row));
    const Matrix* const first = w + (size_t(row) * Parts + g) * padded(K) + t * 8;
    const bool has[2] = {g < taken * Parts, g + 8 < taken * Parts};
    float c[2][4] = {};
#pragma unroll 1
    for (int start = 0; start < C::slice; start += C::wave) {
      uint4 raw[C::wave][2];
#pragma unroll
      for (int u = 0; u < C::wave; ++u) {
        const int block = slice * C::slice + start + u;
        const bool wanted = C::whole || (start + u < C::slice && block < C::blocks);
#pragma unroll
        for (int half = 0; half < 2; ++half)
          raw[u][half] = load_weight(first + half * 8 * padded(K) + block * 32, wanted && has[half]);
      }
#pragma unroll
      for (int u = 0; u < C::wave; ++u) {
        const int block = slice * C::slice + start + u;
        if (!C::whole && (start + u >= C::slice || block >= C::blocks)) break;
        uint4 x[2] = {};
        if (g < tokens) {
          x[0] = *reinterpret_cast<const uint4*>(high + input_cell(g, block * 32 + t * 8));
          x[1] = *reinterpret_cast<const uint4*>(low + input_cell(g, block * 32 + t * 8));
        }
        const uint4 &upper = raw[u][0], &lower = raw[u][1];
#pragma unroll
        for (int part = 0; part < 2; ++part) {
          multiply_tile_of<Cache>(c[part], upper.x, lower.x, upper.y, lower.y, x[part].x, x[part].y);
          multiply_tile_of<Cache>(c[part], upper.z, lower.z, upper.w, lower.w, x[part].z, x[part].w);
        }
      }
    }
    // Lane 4 g + t has rows g and g + 8 of tokens 2 t and 2 t + 1.
    float2* const mine = reinterpret_cast<float2*>(sums + slice * 128);
    mine[lane] = make_float2(c[0][0] + c[1][0], c[0][1] + c[1][1]);
    mine[32 + lane] = make_float2(c[0][2] + c[1][2], c[0][3] + c[1][3]);
    warps_sync(1 + group, C::slices * 32);
    const int item = slice * 32 + lane, r = item / 8, token = item % 8;
    if (r < taken && token < tokens) {
      float y[Parts];
#pragma unroll
      for (int p = 0; p < Parts; ++p) {
        const float* const at = sums + (r * Parts + p) * 8 + token;
        y[p] = at[0];
#pragma unroll
        for (int s = 1; s < C::slices; ++s) y[p] += at[s * 128];
      }
      epilogue(row + r, token, static_cast<const float(&)[Parts]>(y));
    }
    warps_sync(1 + group, C::slices * 32);
  }
}

// ---- several tokens, float weights: one warp a row

template <int K, int Parts, class Epilogue>
DEVICE void matmul_rows(Block& b, const Matrix* w, Range rows, int tokens, Epilogue& epilogue) {
  constexpr int V = kVector<Matrix>, kSpan = 32 * V, kChunks = divide_up(padded(K), kSpan), kWave = kChunks < 8 ? kChunks : 8;
  constexpr int kTokens = power_of_two(kPassTokens);
  const int thread = opaque(int(threadIdx.x)), lane = thread % 32;
  for (int row = rows.begin + thread / 32; row < rows.end; row += kWarps) {
    float y[Parts];
#pragma unroll
    for (int p = 0; p < Parts; ++p) {
      const Matrix* const first = w + (size_t(row) * Parts + p) * padded(K) + lane * V;
      float sum[kTokens] = {};
      for (int start = 0; start < kChunks; start += kWave) {
        uint4 raw[kWave];
#pragma unroll
        for (int c = 0; c < kWave; ++c)
          raw[c] = load_weight(first + (start + c) * kSpan, (start + c) * kSpan + lane * V < padded(K));
#pragma unroll
        for (int token = 0; token < kPassTokens; ++token) {
          if (token >= tokens) break;
#pragma unroll
          for (int c = 0; c < kWave; ++c) {
            const int at = (start + c) * kSpan, lanes = min(32, (padded(K) - at) / V);
            if (lane < lanes) sum[token] = dot_chunk(sum[token], raw[c], b.scratch + token * padded(K) + at + lane * 4, lanes);
          }
        }
      }
      y[p] = warp_sums<kTokens>(sum);
    }
    if (lane < tokens) epilogue(row, lane, static_cast<const float(&)[Parts]>(y));
  }
}

/** One token, weights as the plan has them. */
template <int K, int Parts, class Input, class Epilogue>
DEVICE void matmul_single(Block& b, const Input& input, const Matrix* w, Range rows, Epilogue& epilogue) {
  if constexpr (kBuffers == 0)
    matmul_one<K, Parts>(input, w, rows, epilogue);
  else
    matmul_buffered<K, Parts>(b, input, w, rows, epilogue);
}

/** Several tokens, whose input is the block's copy. */
template <int K, int Parts, class Epilogue>
DEVICE void matmul_several(Block& b, const Matrix* w, Range rows, int tokens, Epilogue& epilogue) {
  if (tokens == 0) return;
  if constexpr (kTensorCores)
    matmul_tiles<K, Parts>(b, w, rows, tokens, epilogue);
  else
    matmul_rows<K, Parts>(b, w, rows, tokens, epilogue);
}

/**
 * epilogue(row, token, y): y[p] is row (row * Parts + p) of w times the input of the token; each (row, token) is one call by one thread.
 * tokens is what the input function was told. The order of summation depends on K, Parts, tokens == 1 and the constants of the plan only.
 */
template <int K, int Parts, class Epilogue>
DEVICE void matmul(Block& b, const Matrix* w, Range rows, int tokens, Epilogue&& epilogue) {
  if (tokens == 1) {
    matmul_single<K, Parts>(b, SharedInput{b.scratch}, w, rows, epilogue);
  } else if constexpr (kPassTokens > 1) {
    matmul_several<K, Parts>(b, w, rows, tokens, epilogue);
  }
}

/** The same for the input src [tokens][K] in global memory: one token reads it there, several take a copy. */
template <int K, int Parts, class Epilogue>
DEVICE void matmul_from(Block& b, const float* src, const Matrix* w, Range rows, int tokens, Epilogue&& epilogue) {
  if (tokens == 1) {
    matmul_single<K, Parts>(b, GlobalInput{src}, w, rows, epilogue);
  } else if constexpr (kPassTokens > 1) {
    gather_input<K>(b, src, tokens);
    matmul_several<K, Parts>(b, w, rows, tokens, epilogue);
  }
}
