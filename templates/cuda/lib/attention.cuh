// Attention of one kv head over a range of cached positions, and the merge of such splits.
#pragma once
#include "input.cuh"

/** Queries that one warp works on together. */
BOTH constexpr int attend_tile(int queries) { return queries < 2 ? queries : 2; }

/** Floats of b.scratch that attend uses: every warp's D sums, maximum and sum of weights for each query of its tile. */
template <int D, int Group, int Tokens>
BOTH constexpr int attend_scratch() {
  return kWarps * attend_tile(Group * Tokens) * (D + 2);
}

/** Eight values of a cache row of D from element `from` on: loaded at once, unpacked later. Past the end of the row they mean nothing. */
template <int D>
struct CacheChunk {
  static constexpr bool vector = D % 8 == 0;
  static constexpr int loads = int(sizeof(Cache)) / 2;
  uint4 raw[vector ? loads : 1];
  float single[vector ? 1 : 8];

  DEVICE void load(const Cache* row, int from) {
    if constexpr (vector) {
#pragma unroll
      for (int i = 0; i < loads; ++i) raw[i] = load_cache(row + min(from, D - 8) + i * kVector<Cache>);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) single[j] = to_float(row[min(from + j, D - 1)]);
    }
  }

  DEVICE void values(float (&v)[8]) const {
    if constexpr (vector) {
#pragma unroll
      for (int i = 0; i < loads; ++i) {
        float part[kVector<Cache>];
        unpack<Cache>(part, raw[i]);
#pragma unroll
        for (int j = 0; j < kVector<Cache>; ++j) v[i * kVector<Cache> + j] = part[j];
      }
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = single[j];
    }
  }
};

/** Eight values of a query of D from element `from` on, zeros past its end. */
template <int D>
DEVICE void load_query(float (&x)[8], const float* query, int from) {
  if constexpr (D % 8 == 0) {
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const float4 v = from < D ? *reinterpret_cast<const float4*>(query + from + 4 * part) : make_float4(0, 0, 0, 0);
      x[4 * part] = v.x, x[4 * part + 1] = v.y, x[4 * part + 2] = v.z, x[4 * part + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int j = 0; j < 8; ++j) x[j] = from + j < D ? query[from + j] : 0.0f;
  }
}

DEVICE float minus_infinity() { return -__int_as_float(0x7f800000); }

/** exp(x - row_max), and 0 for x = -inf even where row_max is -inf too. */
DEVICE float weight_below(float x, float row_max) { return x == minus_infinity() ? 0.0f : __expf(x - row_max); }

/**
 * attend for tiles of Tile queries; query i is token i / Group, head i % Group. Warps share the tiles first, then the positions of a tile.
 * A position is read by `kLanes` lanes, 8 dims each; a warp reads kSide positions side by side, kUnroll times before it uses them.
 */
template <int D, int Group, int Splits, int Tile>
DEVICE void attend_tiles(float* scratch, const float* q, int q_token_stride, const Cache* cache_head, float* partial,
                         int partial_token_stride, int split, int begin, int end, int position, int tokens, int window) {
  constexpr int kLanes = power_of_two(divide_up(D, 8)), kSide = 32 / kLanes;
  constexpr int kUnroll = D % 8 != 0 ? 1 : sizeof(Cache) == 4 ? 2 : 4;  // as registers allow
  static_assert(D % 2 == 0 && kLanes <= 32, "head dims are even and at most 256");
  const int thread = opaque(int(threadIdx.x)), lane = thread % 32, warp = thread / 32;
  const int side = lane / kLanes, from = lane % kLanes * 8;
  const int queries = tokens * Group, tiles = divide_up(queries, Tile);
  const int together = min(tiles, kWarps), stripes = kWarps / together, stripe = warp % stripes;

  for (int first = 0; first < tiles; first += together) {
    const int slot = warp / stripes, tile = first + slot;
    float row_max[Tile], row_sum[Tile], sum[Tile][8], query[Tile][8];
    int last[Tile], hidden[Tile];  // the last position that the query sees, and the last before those that it sees
#pragma unroll
    for (int i = 0; i < Tile; ++i) {
      const int index = min(tile * Tile + i, queries - 1), token = index / Group;
      load_query<D>(query[i], q + token * q_token_stride + index % Group * D, from);
      row_max[i] = minus_infinity(), row_sum[i] = 0, last[i] = min(end - 1, position + token), hidden[i] = position + token - window;
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] = 0;
    }
    const int stop = slot < together && tile < tiles ? end : begin;
    for (int base = begin + stripe * kSide; base < stop; base += stripes * kSide * kUnroll) {
      CacheChunk<D> key[kUnroll], value[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int p = min(base + u * stripes * kSide + side, end - 1);  // past the end a position again, of weight 0
        const Cache* const row = cache_head + size_t(unsigned(p)) * (2 * D);
        key[u].load(row, from);
        value[u].load(row + D, from);
      }
      float score[kUnroll][Tile];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int p = base + u * stripes * kSide + side;
        float k[8];
        key[u].values(k);
#pragma unroll
        for (int i = 0; i < Tile; ++i) {
          float s = 0;
#pragma unroll
          for (int j = 0; j < 8; ++j) s = fmaf(query[i][j], k[j], s);
#pragma unroll
          for (int other = kLanes / 2; other > 0; other /= 2) s += __shfl_xor_sync(~0u, s, other);
          score[u][i] = p <= last[i] && (window == 0 || p > hidden[i]) ? s * kAttnScale : minus_infinity();
        }
      }
#pragma unroll
      for (int i = 0; i < Tile; ++i) {
        float new_max = row_max[i];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) new_max = fmaxf(new_max, score[u][i]);
        const float rescale = weight_below(row_max[i], new_max);
        row_max[i] = new_max, row_sum[i] *= rescale;
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[i][j] *= rescale;
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          score[u][i] = weight_below(score[u][i], new_max);
          row_sum[i] += score[u][i];
        }
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        float v[8];
        value[u].values(v);
#pragma unroll
        for (int i = 0; i < Tile; ++i)
#pragma unroll
          for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(score[u][i], v[j], sum[i][j]);
      }
    }
#pragma unroll
    for (int i = 0; i < Tile; ++i) {
#pragma unroll
      for (int other = kLanes; other < 32; other *= 2) {
        const float other_max = __shfl_xor_sync(~0u, row_max[i], other), new_max = fmaxf(row_max[i], other_max);
        const float rescale = weight_below(row_max[i], new_max), other_rescale = weight_below(other_max, new_max);
        row_max[i] = new_max;
        row_sum[i] = row_sum[i] * rescale + __shfl_xor_sync(~0u, row_sum[i], other) * other_rescale;
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[i][j] = sum[i][j] * rescale + __shfl_xor_sync(~0u, sum[i][j], other) * other_rescale;
      }
      if (side == 0) {
        float* const mine = scratch + (warp * Tile + i) * (D + 2);
#pragma unroll
        for (int j = 0; j < 8; j += 2)
          if (from + j < D) *reinterpret_cast<float2*>(mine + from + j) = make_float2(sum[i][j], sum[i][j + 1]);
        if (from == 0) *reinterpret_cast<float2*>(mine + D) = make_float2(row_max[i], row_sum[i]);
      }
    }
    __syncthreads();
    // The stripes of each query, in order.
    for (int item = thread; item < together * Tile * (D / 2); item += kThreads) {
      const int d = item % (D / 2) * 2, i = item / (D / 2) % Tile, tile_slot = item / (D / 2) / Tile;
      const int index = (first + tile_slot) * Tile + i;
      if (index >= queries) continue;
      const float* const parts = scratch + (tile_slot * stripes * Tile + i) * (D + 2);
      float row_max = minus_infinity();
      for (int s = 0; s < stripes; ++s) row_max = fmaxf(row_max, parts[s * Tile * (D + 2) + D]);
      float row_sum = 0, x = 0, y = 0;
      for (int s = 0; s < stripes; ++s) {
        const float* const part = parts + s * Tile * (D + 2);
        const float rescale = weight_below(part[D], row_max);
        row_sum = fmaf(part[D + 1], rescale, row_sum);
        x = fmaf(part[d], rescale, x);
        y = fmaf(part[d + 1], rescale, y);
      }
      float* const out = partial + index / Group * partial_token_stride + (index % Group * Splits + split) * (D + 2);
      *reinterpret_cast<float2*>(out + d) = make_float2(x, y);
      if (d == 0) *reinterpret_cast<float2*>(out + D) = make_float2(row_max, row_sum);
    }
    __syncthreads();
  }
}

/**
 * Attention of one kv head over positions [begin, end): see the contract of partial above merge. By the whole block.
 * A token sees its own position and the window - 1 before it; with a window of 0 all before it.
 */
template <int D, int Group, int Splits>
DEVICE void attend(Block& b, int scratch, const float* q, int q_token_stride, const Cache* cache_head, float* partial,
                   int partial_token_stride, int split, int begin, int end, int position, int tokens, int window) {
  constexpr int kOne = attend_tile(Group), kAll = attend_tile(Group * kPassTokens);
  if constexpr (kOne != kAll) {
    if (tokens == 1) {
      attend_tiles<D, Group, Splits, kOne>(b.scratch + scratch, q, q_token_stride, cache_head, partial, partial_token_stride,
                                           split, begin, end, position, tokens, window);
      return;
    }
  }
  attend_tiles<D, Group, Splits, kAll>(b.scratch + scratch, q, q_token_stride, cache_head, partial, partial_token_stride, split,
                                       begin, end, position, tokens, window);
}

// A partial is [Splits][D + 2] for each token and q head: D sums of exp(s - m) v, then m = the largest score, then the sum of exp(s - m).

/** store(d, values) with W neighbouring dims of one head merged over its splits, for all of its D dims. By one warp. */
template <int D, int Splits, int W, class Store>
DEVICE void merge_head(const float* partial, Store&& store) {
  static_assert(W % 2 == 0 && D % W == 0);
  constexpr int kTogether = Splits < 16 ? Splits : 16;
  const int lane = opaque(int(threadIdx.x)) % 32;
#pragma unroll 1
  for (int d = lane * W; d < divide_up(D, 32 * W) * 32 * W; d += 32 * W) {
    float row_max = minus_infinity(), row_sum = 0, out[W] = {};
#pragma unroll 1
    for (int start = 0; start < Splits; start += kTogether) {
      // Lane s has row_max and row_sum of split start + s; every lane has its own dims of all these splits.
      float2 tail = make_float2(minus_infinity(), 0), v[kTogether][W / 2];
      if (lane < kTogether && start + lane < Splits)
        tail = __ldcg(reinterpret_cast<const float2*>(partial + (start + lane) * (D + 2) + D));
#pragma unroll
      for (int s = 0; s < kTogether; ++s)
#pragma unroll
        for (int j = 0; j < W / 2; ++j) {
          v[s][j] = make_float2(0, 0);
          if (d < D && (Splits % kTogether == 0 || start + s < Splits))
            v[s][j] = __ldcg(reinterpret_cast<const float2*>(partial + (start + s) * (D + 2) + d + 2 * j));
        }
      float new_max = fmaxf(row_max, tail.x);
#pragma unroll
      for (int other = 16; other > 0; other /= 2) new_max = fmaxf(new_max, __shfl_xor_sync(~0u, new_max, other));
      const float rescale = weight_below(row_max, new_max), share = weight_below(tail.x, new_max);
      row_max = new_max;
      row_sum = row_sum * rescale + warp_sum(tail.y * share);
#pragma unroll
      for (int j = 0; j < W; ++j) out[j] *= rescale;
#pragma unroll
      for (int s = 0; s < kTogether; ++s) {
        const float part = __shfl_sync(~0u, share, s);
#pragma unroll
        for (int j = 0; j < W / 2; ++j) {
          out[2 * j] = fmaf(v[s][j].x, part, out[2 * j]);
          out[2 * j + 1] = fmaf(v[s][j].y, part, out[2 * j + 1]);
        }
      }
    }
    const float inverse = __fdividef(1.0f, row_sum);
#pragma unroll
    for (int j = 0; j < W; ++j) out[j] *= inverse;
    if (d < D) store(d, out);
  }
}

/** Dims that a lane merges together. */
BOTH constexpr int merge_width(int d) { return d % 4 == 0 && d > 64 ? 4 : 2; }

/** dst [D] := one head merged over its splits. By one warp. */
template <int D, int Splits>
DEVICE void merge(Block&, float* dst, const float* partial) {
  constexpr int W = merge_width(D);
  merge_head<D, Splits, W>(partial, [&](int d, const float(&v)[W]) {
#pragma unroll
    for (int j = 0; j < W; ++j) dst[d + j] = v[j];
  });
  __syncwarp();
}

/** The matmul input := heads [tokens][K / D] merged over their splits; partial is [tokens][K / D][Splits][D + 2]. */
template <int K, int D, int Splits>
DEVICE void merge_input(Block& b, const float* partial, int tokens) {
  constexpr int W = merge_width(D), kHeads = K / D;
  static_assert(K % D == 0);
  __syncthreads();
  for (int unit = opaque(warp()); unit < tokens * kHeads; unit += kWarps)
    merge_head<D, Splits, W>(partial + size_t(unit) * (Splits * (D + 2)), [&](int d, const float(&v)[W]) {
      store_input<K, W>(b, tokens, unit / kHeads, unit % kHeads * D + d, v);
    });
  pad_input<K>(b, tokens);
  __syncthreads();
}
