// Positions of the KV cache on the tensor cores: tiles of keys and values, and the running softmax over them.
#pragma once
#include "cached.cuh"

constexpr float kLog2e = 1.44269504f;
constexpr float kMaskedScore = -1e30f;  // the score of a position that does not count
constexpr float kLeastScore = kMaskedScore / 2;  // less than any that does: what does not count weighs nothing beside it
/** Weights times scales are as small as the scales: in fp16, which has few small numbers, in units as large as values may be. */
constexpr float kWeightUnit = kScaledCache && std::is_same_v<Wire, fp16> ? 64 : 1;

/** 2^x. */
DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/** Keys and values of 16 positions, in the registers of a warp, where the cache has numbers: of all elements of the values, or of one of so many slices. */
template <int Slices>
struct PlainTile {
  static constexpr int kKeySteps = kHeadPad / 32, kValueSteps = kHeadPad / 16 / Slices;
  uint4 keys[2][kKeySteps];    // positions lane / 4 and + 8, elements 32 k + 8 (lane % 4) on
  uint4 values[kValueSteps];   // transposed: rows are elements 16 i on, columns positions

  DEVICE uint4 key(int half, int k) const { return keys[half][k]; }
  DEVICE uint4 value(int i) const { return values[i]; }
  /** Of position half * 8 + 2 (lane % 4) + i what its product with a query, and its weight in the sum of values, have to be multiplied by. */
  DEVICE float key_scale(int, int) const { return 1; }
  DEVICE float value_scale(int, int) const { return 1; }

  DEVICE void load(uint32_t rows, int first_position, int slice) {
    static_assert(kScaledCache || kRowBytes % 128 == 0, "chunks_behind");
    const int lane = opaque(::lane()), r = lane >> 2, quad = lane & 3;
    const uint32_t key = rows + r * kRowBytes + swizzled(quad, first_position + r) * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int k = 0; k < kKeySteps; ++k) keys[half][k] = load_shared(chunks_behind(key, 4 * k) + half * 8 * kRowBytes);
    const int row = (lane >> 4 & 1) * 8 + (lane & 7);
    const uint32_t value = chunks_behind(rows + row * kRowBytes + swizzled(lane >> 3 & 1, first_position + row) * 16, slice * kValueSteps * 2);
#pragma unroll
    for (int i = 0; i < kValueSteps; ++i) {
      const uint32_t address = chunks_behind(value, kHeadPad / 8 + i * 2);
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(values[i].x), "=r"(values[i].y), "=r"(values[i].z), "=r"(values[i].w)
                   : "r"(address)
                   : "memory");
    }
  }

  /** Values from position `count` of the tile on become zeros: what lies there counts nothing, but may be no number. */
  DEVICE void clear_from(int count) {
    if (count >= kKvTile) return;
    const auto kept = [&](int first) { return (first < count ? 0xffffu : 0) | (first + 1 < count ? 0xffff0000u : 0); };
    const unsigned low = kept((opaque(lane()) & 3) * 2), high = kept((opaque(lane()) & 3) * 2 + 8);
#pragma unroll
    for (int i = 0; i < kValueSteps; ++i) values[i].x &= low, values[i].y &= low, values[i].z &= high, values[i].w &= high;
  }

  /** Some bits of every load. */
  DEVICE unsigned bits() const {
    unsigned all = 0;
#pragma unroll
    for (int k = 0; k < kKeySteps; ++k) all |= keys[0][k].w | keys[1][k].w;
#pragma unroll
    for (int i = 0; i < kValueSteps; ++i) all |= values[i].w;
    return all;
  }
};

/** The same where the cache has codes, which become numbers when they are used. What lies behind the last position may have any scales. */
template <int Slices>
struct ScaledTile {
  static constexpr int kKeySteps = kHeadPad / 32, kValueSteps = kHeadPad / 16 / Slices;
  uint2 keys[2][kKeySteps];
  uint2 values[kValueSteps];  // of positions 0 to 7, and the others
  float2 scales[2][2];        // of key and value

  DEVICE void load(uint32_t rows, int, int slice) {
    const int lane = opaque(::lane()), r = lane >> 2, quad = lane & 3;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int k = 0; k < kKeySteps; ++k) keys[half][k] = load_shared_pair(rows + (half * 8 + r) * kRowBytes + k * 32 + quad * 8);
    const uint32_t row = rows + (lane & 15) * kRowBytes + kHeadPad + slice * kValueSteps * 16 + (lane >> 4) * 16;
#pragma unroll
    for (int i = 0; i < kValueSteps; i += 2)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(values[i].x), "=r"(values[i].y), "=r"(values[i + 1].x), "=r"(values[i + 1].y)
                   : "r"(row + i * 16)
                   : "memory");
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint2 both = load_shared_pair(rows + (half * 8 + quad * 2 + i) * kRowBytes + ScaledRow::kScalesAt);
        scales[half][i] = make_float2(__uint_as_float(both.x), __uint_as_float(both.y));
      }
  }

  using Codes = Cell<int8_block, 1>;
  DEVICE uint4 key(int half, int k) const { return Codes::numbers_of(keys[half][k]); }
  DEVICE uint4 value(int i) const { return Codes::numbers_of(values[i]); }
  DEVICE float key_scale(int half, int i) const { return scales[half][i].x; }
  DEVICE float value_scale(int half, int i) const { return scales[half][i].y * kWeightUnit; }

  DEVICE void clear_from(int) {}  // any code is a number

  DEVICE unsigned bits() const {
    unsigned all = 0;
#pragma unroll
    for (int k = 0; k < kKeySteps; ++k) all |= keys[0][k].y | keys[1][k].y;
#pragma unroll
    for (int i = 0; i < kValueSteps; ++i) all |= values[i].y;
#pragma unroll
    for (const auto& half : scales) all |= __float_as_uint(half[0].y) | __float_as_uint(half[1].y);
    return all;
  }
};

template <int Slices>
using KvTile = std::conditional_t<kScaledCache, ScaledTile<Slices>, PlainTile<Slices>>;

/** Running softmax of eight queries: lane / 4 is a query in scores, 2 (lane % 4) and + 1 are in `out`. */
template <int Slices>
struct Running {
  static constexpr int kSteps = kHeadPad / 16 / Slices;
  float out[kSteps][4] = {};
  float row_max = kLeastScore, row_sum = 0;
  bool first = true;  // no tile has been added

  /** Adds N tiles, one after the other. counts(n, column): whether this lane's query sees that position of a tile. */
  template <int N, class Counts>
  DEVICE void add(const KvTile<Slices>* tiles, const Wire* queries, int query_stride, int last_query, Counts&& counts) {
    const int lane = opaque(::lane()), quad = lane & 3;
    const Wire* const mine = queries + min(lane >> 2, last_query) * query_stride + quad * 8;
    // A query is row r of the matrix with the first half of 8 elements, and row r + 8 with the others: one product has the sum of each.
    float score[N][2][2][4] = {};
#pragma unroll
    for (int k = 0; k < KvTile<Slices>::kKeySteps; ++k) {
      const uint4 q = *reinterpret_cast<const uint4*>(mine + k * 32);
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint4 key = tiles[n].key(half, k);
          multiply_tile(score[n][half][0], q.x, q.y, q.z, q.w, key.x, key.y);
          multiply_tile(score[n][half][1], q.x, q.y, q.z, q.w, key.z, key.w);
        }
    }
#pragma unroll
    for (int n = 0; n < N; ++n) weigh(tiles[n], score[n], [&](int column) { return counts(n, column); });
  }

  /** Adds a tile whose keys have been multiplied. Sums are rounded as they stand here, not joined with products: a check has the bits of others. */
  template <class Counts>
  DEVICE void weigh(const KvTile<Slices>& tile, const float (&score)[2][2][4], Counts&& counts) {
    const int quad = opaque(::lane()) & 3;
    float s[2][2], top = row_max;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const bool seen = counts(half * 8 + quad * 2 + i);
        const float sum = score[half][0][i] + score[half][1][i + 2];
        s[half][i] = seen ? __fmul_rn(sum, kAttnScale * kLog2e * tile.key_scale(half, i)) : kMaskedScore;
        top = fmaxf(top, s[half][i]);
      }
    top = quad_max(top);
    if (!first) {
      const float rescale = exp2_approx(row_max - top);
      row_sum = __fmul_rn(row_sum, rescale);
      const float rescale0 = __shfl_sync(~0u, rescale, quad * 8), rescale1 = __shfl_sync(~0u, rescale, quad * 8 + 4);
#pragma unroll
      for (int i = 0; i < kSteps; ++i) out[i][0] *= rescale0, out[i][1] *= rescale1, out[i][2] *= rescale0, out[i][3] *= rescale1;
    }
    first = false;
    row_max = top;
    float p[2][2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        p[half][i] = exp2_approx(__fsub_rn(s[half][i], top));
        row_sum = __fadd_rn(row_sum, p[half][i]);
        if (!kScaledCache || s[half][i] != kMaskedScore) p[half][i] *= tile.value_scale(half, i);
      }
    const unsigned p0 = pair_word(p[0][0], p[0][1]), p1 = pair_word(p[1][0], p[1][1]);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const uint4 value = tile.value(i);
      multiply_tile(out[i], value.x, value.y, value.z, value.w, p0, p1);
    }
  }

  /** Into the block's scratch as one of its parts, for queries [0, last]. */
  template <class Scratch>
  DEVICE void store(Scratch& to, int part, int last_query) {
    static_assert(kSteps % 2 == 0);
    row_sum = quad_sum(row_sum);
    const int lane = opaque(::lane()), r = lane >> 2, quad = lane & 3;
    if (quad == 0) to.row_max[part][r] = row_max, to.row_sum[part][r] = row_sum;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (quad * 2 + c > last_query) continue;
      float* const elements = to.out[part][quad * 2 + c][to.line_of(quad * 2, r)];
#pragma unroll
      for (int i = 0; i < kSteps; i += 2)
        *reinterpret_cast<float4*>(elements + 2 * i) = make_float4(out[i][c] / kWeightUnit, out[i][c + 2] / kWeightUnit,
                                                                   out[i + 1][c] / kWeightUnit, out[i + 1][c + 2] / kWeightUnit);
    }
  }
};
