// The small steps: embedding, and what one warp does to one head vector.
#pragma once
#include "block.cuh"

/** Columns [begin, end) of dst [tokens][K] := those of the tokens' rows of table [vocab][padded(K)]. In the place of a token that could
 *  not be chosen (kNotFinite): row 0, since a pass behind it may have begun. */
template <int K>
DEVICE void embed(Block&, float* dst, const Matrix* table, const int* ids, int tokens, Range columns) {
  const int width = columns.end - columns.begin;
  for (int i = opaque(int(threadIdx.x)); i < tokens * width; i += kThreads) {
    const int token = i / width, k = columns.begin + i % width;
    dst[token * K + k] = to_float(table[size_t(max(__ldcg(ids + token), 0)) * padded(K) + k]);
  }
}

/** dst [D] := RMSNorm of src [D]; dst may be src. By one warp. */
template <int D>
DEVICE void head_norm(float* dst, const float* src, const float* weight, float eps) {
  constexpr int kEach = divide_up(D, 32);
  float x[kEach], square = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = i * 32 + lane();
    x[i] = d < D ? src[d] : 0.0f;
    square = fmaf(x[i], x[i], square);
  }
  const float factor = rsqrtf(warp_sum(square) * (1.0f / D) + eps);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = i * 32 + lane();
    if (d < D) dst[d] = x[i] * (factor * weight[d]);
  }
  __syncwarp();
}

/** dst [D] := src [D] with the pairs (i, i + D / 2) turned by row [D / 2][cos, sin]; dst may be src. By one warp. */
template <int D>
DEVICE void rope(float* dst, const float* src, const float* row) {
#pragma unroll
  for (int i = lane(); i < D / 2; i += 32) {
    const float cosine = row[2 * i], sine = row[2 * i + 1], x = src[i], y = src[i + D / 2];
    dst[i] = x * cosine - y * sine;
    dst[i + D / 2] = y * cosine + x * sine;
  }
  __syncwarp();
}

/** One position of the KV cache [2][D] := k [D], v [D], rounded to Cache. By one warp. */
template <int D>
DEVICE void append(Cache* cache_row, const float* k, const float* v) {
#pragma unroll
  for (int d = lane(); d < D; d += 32) {
    cache_row[d] = to_element<Cache>(k[d]);
    cache_row[D + d] = to_element<Cache>(v[d]);
  }
  __syncwarp();
}
