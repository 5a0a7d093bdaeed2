// y = W x for one token: how rows are cut, dealt to warps and summed, and the product whose weights go straight to registers.
#pragma once
#include "input.cuh"

// Shared memory for sums that cross warps, apart from b.scratch: one token [2][kWarps][16], several [kWarps][16 rows][8 tokens].
constexpr int kSumsFloats = kTensorCores ? kWarps * 128 : 2 * kWarps * 16;

/** Shared memory the library has for itself [floats], beside kScratchFloats: these sums, and what norm, barrier and sampler keep. */
constexpr int kLibScratchFloats = kSumsFloats + 256;

DEVICE float* shared_sums() {
  __shared__ __align__(128) float sums[kSumsFloats];
  return sums;
}

/** Warps that share a row of so many chunks: as many as make groups of all, and no more groups than there are barriers of warps. */
BOTH constexpr int slices_of(int chunks) {
  int slices = chunks < 2 ? 1 : chunks <= 32 ? 2 : chunks <= 64 ? 4 : 8;
  while (kComputeWarps % slices != 0) slices /= 2;
  if (slices > 1 && kComputeWarps / slices > 15) slices = chunks < 4 ? 1 : 4;
  return slices;
}

/**
 * How one token's product is cut, a function of K, Parts and the plan's constants alone, and with it the order of summation.
 * A row is `chunks` warp-wide loads; `slices` warps share a row, and each has `slice` chunks of it, `wave` of them in flight at once
 * for all Parts; if that leaves room, a warp takes `rows` rows together.
 */
template <int K, int Parts>
struct RowCut {
  static constexpr int span = 32 * kLoadElements;
  static constexpr int chunks = divide_up(padded(K), span);
  static constexpr int slices = slices_of(chunks);
  static constexpr int slice = divide_up(chunks, slices);
  static constexpr int groups = kComputeWarps / slices;
  static constexpr int most = kInFlight < Parts ? 1 : kInFlight / Parts;
  static constexpr int wave = divide_up(slice, divide_up(slice, most));
  static constexpr int waves = divide_up(slice, wave);
  static constexpr bool once = waves == 1;
  static constexpr int fit = once ? most / wave : 1;
  static constexpr int rows = fit > 8 ? 8 : fit;
  static constexpr bool whole = padded(K) == slices * slice * span;  // no lane is ever past the row's end
  static constexpr int values = power_of_two(rows * Parts);
  static_assert(Parts >= 1 && wave >= 1 && rows >= 1 && values <= 16);
  static_assert(groups * slices == kComputeWarps, "no warp is left over");
  static_assert(slices * slice >= chunks && (slices - 1) * slice <= chunks, "the slices cover each chunk once");

  /** Whether a lane has elements in load i of `taken` rows, chunk `chunk` of a slice. */
  static DEVICE bool wanted(int i, int chunk, int slice_number, int lane, int taken) {
    bool is = i / Parts < taken && chunk < slice;
    if constexpr (!whole) is = is && (slice_number * slice + chunk) * span + lane * kLoadElements < padded(K);
    return is;
  }
};

/** sum + a lane's weights times its part of a chunk of the block's copy of the input; x is where its first floats are. */
template <class Raw>
DEVICE float dot_chunk(float sum, const Raw& raw, const float* x, int lanes) {
  constexpr int V = int(sizeof(Raw) / sizeof(Matrix));
  float w[V];
  unpack<Matrix>(w, raw);
  if constexpr (V == 2) {
    const float2 v = *reinterpret_cast<const float2*>(x);
    sum = fmaf(w[0], v.x, sum);
    return fmaf(w[1], v.y, sum);
  } else {
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
}

/** The input of one token: the block's copy, at x. */
struct SharedInput {
  const float* x;

  /** sum + a lane's weights times the elements of the chunk that begins at `at`, which `lanes` lanes share. */
  template <int K>
  DEVICE float dot(float sum, const Load& raw, int at, int lane, int lanes) const {
    return dot_chunk(sum, raw, x + at + lane * (kLoadElements < 4 ? kLoadElements : 4), lanes);
  }
};

/** The input of one token in global memory: x [K], which other blocks wrote before the last grid barrier; through L1. */
struct GlobalInput {
  const float* x;

  template <int K>
  DEVICE float dot(float sum, const Load& raw, int at, int lane, int) const {
    constexpr int V = kLoadElements, W = activation_width(K) < V ? activation_width(K) : V;
    float w[V];
    unpack<Matrix>(w, raw);
    const int k = at + lane * V;
#pragma unroll
    for (int part = 0; part < V; part += W) {
      // Behind element K the weights are zeros, and the memory is another's.
      if (padded(K) != K && k + part >= K) break;
      float v[W];
      if constexpr (W == 4) {
        const float4 four = *reinterpret_cast<const float4*>(x + k + part);
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
      } else if constexpr (W == 2) {
        const float2 two = *reinterpret_cast<const float2*>(x + k + part);
        v[0] = two.x, v[1] = two.y;
      } else {
        v[0] = x[k + part];
      }
#pragma unroll
      for (int j = 0; j < W; ++j) sum = fmaf(w[part + j], v[j], sum);
    }
    return sum;
  }
};

/** sum [row][Parts] += a wave of loads times their part of the input; raw(i, c): load c of row i / Parts. */
template <int K, int Parts, class Input, class Raw>
DEVICE void add_wave(float (&sum)[RowCut<K, Parts>::values], const Input& input, int start, int slice, int lane, int taken, Raw&& raw) {
  using C = RowCut<K, Parts>;
#pragma unroll
  for (int r = 0; r < C::rows; ++r) {
    if (r >= taken) break;
#pragma unroll
    for (int c = 0; c < C::wave; ++c) {
      if (start + c >= C::slice) break;
      const int at = (slice * C::slice + start + c) * C::span;
      int lanes = 32;
      if constexpr (!C::whole) lanes = min(32, (padded(K) - at) / kLoadElements);
      if (!C::whole && lane >= lanes) continue;
#pragma unroll
      for (int p = 0; p < Parts; ++p)
        sum[r * Parts + p] = input.template dot<K>(sum[r * Parts + p], raw(r * Parts + p, c), at, lane, lanes);
    }
  }
}

/** Adds the lanes' sums, then those of the warps that share the rows, and hands each row to the epilogue. `mine`: [slices][16]. */
template <int K, int Parts, class Epilogue>
DEVICE void finish_rows(float (&sum)[RowCut<K, Parts>::values], float* mine, int group, int slice, int lane, int row, int taken,
                        Epilogue& epilogue) {
  using C = RowCut<K, Parts>;
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

/** Weights straight to registers. */
template <int K, int Parts, class Input, class Epilogue>
DEVICE void matmul_one(const Input& input, const Matrix* w, Range rows, Epilogue& epilogue) {
  using C = RowCut<K, Parts>;
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
    const Matrix* const first = w + size_t(row) * Parts * padded(K) + slice * C::slice * C::span + lane * kLoadElements;
    float sum[C::values];
#pragma unroll
    for (int i = 0; i < C::values; ++i) sum[i] = 0;
#pragma unroll
    for (int start = 0; start < C::slice; start += C::wave) {
      Load raw[C::rows * Parts][C::wave];
#pragma unroll
      for (int i = 0; i < C::rows * Parts; ++i)
#pragma unroll
        for (int c = 0; c < C::wave; ++c)
          load_weights(raw[i][c], first + i * padded(K) + (start + c) * C::span, C::wanted(i, start + c, slice, lane, taken));
      add_wave<K, Parts>(sum, input, start, slice, lane, taken, [&](int i, int c) -> const Load& { return raw[i][c]; });
    }
    float* const mine = sums + (parity * kWarps + group * C::slices) * 16;
    parity ^= 1;
    finish_rows<K, Parts>(sum, mine, group, slice, lane, row, taken, epilogue);
  }
}
