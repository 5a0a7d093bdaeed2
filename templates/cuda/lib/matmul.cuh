// y = W x for the rows of one block. The weights are the bytes that matter: each is loaded once, as many loads in flight as fit.
#pragma once
#include "input.cuh"
#include "tensor.cuh"

// Shared memory for sums that cross warps, apart from b.scratch: one token [2][kWarps][16], several [kWarps][16 rows][8 tokens].
constexpr int kSumsFloats = kTensorCores ? kWarps * 128 : 2 * kWarps * 16;

/** Shared memory the library has for itself [floats], beside kScratchFloats: these sums, and what norm, barrier and sampler keep. */
constexpr int kLibScratchFloats = kSumsFloats + 256;

DEVICE float* shared_sums() {
  __shared__ __align__(128) float sums[kSumsFloats];
  return sums;
}

/** 16-byte loads of weights that a thread has in flight. More would cost registers that the rest of a kernel needs. */
constexpr int kInFlight = 12;

// ---- one token

/**
 * How one token's product is cut, a function of K and Parts alone, and with it the order of summation.
 * A row is `chunks` warp-wide loads; `slices` warps share a row, and each has `slice` chunks of it, `wave` of them in flight at once
 * for all Parts; if that leaves room, a warp takes `rows` rows together.
 */
template <int K, int Parts>
struct RowCut {
  static constexpr int span = 32 * kVector<Matrix>;
  static constexpr int chunks = divide_up(padded(K), span);
  static constexpr int slices = chunks < 2 ? 1 : chunks <= 32 ? 2 : chunks <= 64 ? 4 : 8;
  static constexpr int slice = divide_up(chunks, slices);
  static constexpr int groups = kWarps / slices;
  static constexpr int most = kInFlight / Parts;
  static constexpr int wave = divide_up(slice, divide_up(slice, most));
  static constexpr bool once = wave == slice;
  static constexpr int fit = once ? most / wave : 1;
  static constexpr int rows = fit > 8 ? 8 : fit;
  static constexpr bool whole = padded(K) == slices * slice * span;  // no lane is ever past the row's end
  static constexpr int values = power_of_two(rows * Parts);
  static_assert(Parts >= 1 && Parts <= kInFlight && wave >= 1 && rows >= 1 && values <= 16);
  static_assert(slices * slice >= chunks && (slices - 1) * slice <= chunks, "the slices cover each chunk once");
};

/** sum + a lane's 16 bytes of weights times its part of a chunk of the input; x is where its first four floats are. */
template <int K>
DEVICE float dot_chunk(float sum, const uint4& raw, const float* x, int lanes) {
  constexpr int V = kVector<Matrix>;
  float w[V];
  unpack<Matrix>(w, raw);
#pragma unroll
  for (int part = 0; part < V / 4; ++part) {
    const float4 v = *reinterpret_cast<const float4*>(x + part * lanes * 4);
    sum = fmaf(w[4 * part], v.x, sum);
    sum = fmaf(w[4 * part + 1], v.y, sum);
    sum = fmaf(w[4 * part + 2], v.z, sum);
    sum = fmaf(w[4 * part + 3], v.w, sum);
  }
  return sum;
}

template <int K, int Parts, class Epilogue>
DEVICE void matmul_one(Block& b, const Matrix* w, Range rows, Epilogue& epilogue) {
  using C = RowCut<K, Parts>;
  constexpr int V = kVector<Matrix>;
  const int thread = opaque(int(threadIdx.x)), lane = thread % 32;
  const int group = thread / 32 / C::slices, slice = thread / 32 % C::slices;
  const int n = rows.end - rows.begin;
  const int end = rows.begin + dealt(n, group + 1, C::groups);
  float* const sums = shared_sums();
  int parity = 0;
  __syncthreads();  // the sums of the matmul before have been read
  // All groups take the same number of turns, the last one maybe with no row: their barriers stay in step.
  const int turns = divide_up(divide_up(n, C::groups), C::rows);
  int row = rows.begin + dealt(n, group, C::groups);
  for (int turn = 0; turn < turns; ++turn, row += C::rows) {
    const int taken = max(0, min(C::rows, end - row));
    const Matrix* const first = w + size_t(row) * Parts * padded(K) + slice * C::slice * C::span + lane * V;
    float sum[C::values];
#pragma unroll
    for (int i = 0; i < C::values; ++i) sum[i] = 0;
#pragma unroll
    for (int start = 0; start < C::slice; start += C::wave) {
      uint4 raw[C::rows * Parts][C::wave];
#pragma unroll
      for (int i = 0; i < C::rows * Parts; ++i)
#pragma unroll
        for (int c = 0; c < C::wave; ++c) {
          const int chunk = start + c;
          bool wanted = i / Parts < taken && chunk < C::slice;
          if constexpr (!C::whole)
            wanted = wanted && (slice * C::slice + chunk) * C::span + lane * V < padded(K);
          raw[i][c] = load_weight(first + i * padded(K) + chunk * C::span, wanted);
        }
#pragma unroll
      for (int r = 0; r < C::rows; ++r) {
        if (r >= taken) break;
#pragma unroll
        for (int c = 0; c < C::wave; ++c) {
          if (start + c >= C::slice) break;
          const int at = (slice * C::slice + start + c) * C::span;
          int lanes = 32;
          if constexpr (!C::whole) lanes = min(32, (padded(K) - at) / V);
          if (!C::whole && lane >= lanes) continue;
#pragma unroll
          for (int p = 0; p < Parts; ++p)
            sum[r * Parts + p] = dot_chunk<K>(sum[r * Parts + p], raw[r * Parts + p][c], b.scratch + at + lane * 4, lanes);
        }
      }
    }
    float* const mine = sums + (parity * kWarps + group * C::slices) * 16;
    parity ^= 1;
    const float total = warp_sums<C::values>(sum);
    if (lane < C::values) mine[slice * 16 + lane] = total;
    if constexpr (C::slices == 1)
      __syncwarp();
    else
      warps_sync(1 + group, C::slices * 32);
    if (slice == 0 && lane < taken) {
      float y[Parts];
#pragma unroll
      for (int p = 0; p < Parts; ++p) {
        y[p] = mine[lane * Parts + p];
#pragma unroll
        for (int s = 1; s < C::slices; ++s) y[p] += mine[s * 16 + lane * Parts + p];
      }
      epilogue(row + lane, 0, static_cast<const float(&)[Parts]>(y));
    }
  }
}

// ---- several tokens, 16-bit weights: m16n8k16, the weights as the 16-row operand

/**
 * How several tokens' product is cut: blocks of 32 columns, `slices` warps share a tile of 16 matrix rows and have `slice` blocks each,
 * `wave` of them in flight at once.
 */
template <int K, int Parts>
struct TileCut {
  static constexpr int blocks = padded(K) / 32;
  static constexpr int slices = blocks >= 256 ? 16 : blocks >= 64 ? 8 : 4;
  static constexpr int slice = divide_up(blocks, slices);
  static constexpr int groups = kWarps / slices;
  static constexpr int wave = divide_up(slice, divide_up(slice, kInFlight / 2));
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
          multiply_tile(c[part], upper.x, lower.x, upper.y, lower.y, x[part].x, x[part].y);
          multiply_tile(c[part], upper.z, lower.z, upper.w, lower.w, x[part].z, x[part].w);
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
            if (lane < lanes) sum[token] = dot_chunk<K>(sum[token], raw[c], b.scratch + token * padded(K) + at + lane * 4, lanes);
          }
        }
      }
      y[p] = warp_sums<kTokens>(sum);
    }
    if (lane < tokens) epilogue(row, lane, static_cast<const float(&)[Parts]>(y));
  }
}

/**
 * epilogue(row, token, y): y[p] is row (row * Parts + p) of w times the input of the token; each (row, token) is one call by one thread.
 * tokens is what the input function was told. The order of summation depends on K, Parts and tokens == 1 only.
 */
template <int K, int Parts, class Epilogue>
DEVICE void matmul(Block& b, const Matrix* w, Range rows, int tokens, Epilogue&& epilogue) {
  if (tokens == 1) {
    matmul_one<K, Parts>(b, w, rows, epilogue);
  } else if constexpr (kPassTokens > 1) {
    if (tokens == 0) return;
    if constexpr (kTensorCores)
      matmul_tiles<K, Parts>(b, w, rows, tokens, epilogue);
    else
      matmul_rows<K, Parts>(b, w, rows, tokens, epilogue);
  }
}

/** Starts bringing the rows into L2; they are one contiguous run of bytes. */
template <int K, int Parts>
DEVICE void prefetch_rows(Block&, const Matrix* w, Range rows) {
  const char* const first = reinterpret_cast<const char*>(w + size_t(rows.begin) * Parts * padded(K));
  const unsigned bytes = unsigned(rows.end - rows.begin) * unsigned(Parts * padded(K) * sizeof(Matrix));
#if __CUDA_ARCH__ >= 900
  constexpr unsigned kPiece = 4096;  // a multiple of 16, as is a row
  for (unsigned at = threadIdx.x * kPiece; at < bytes; at += kThreads * kPiece)
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(first + at)),
                 "r"(min(kPiece, bytes - at)));
#else
  for (unsigned at = threadIdx.x * 128; at < bytes; at += kThreads * 128)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(first + at)));
#endif
}
