// A product: this block's tiles of 8 rows times the input that other blocks publish, each warp its part of the columns.
#pragma once
#include "lib/tensor.cuh"
#include "worker.cuh"

/** A lane's part of 32 columns of the input, as the matrix instruction takes it. */
template <int T>
struct InputCell {
  static constexpr bool kFew = T <= 4;
  static constexpr int kGroups = kFew ? 1 : T / 8;
  unsigned words[kGroups][kFew ? 2 : 4];

  DEVICE void load(uint32_t slice, int stride, int column) {
    const int lane = opaque(::lane()), n = lane >> 2, quad = lane & 3;
    if constexpr (kFew) {
      const int token = (n >> 1) & (T - 1), half = n & 1;
      asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                   : "=r"(words[0][0]), "=r"(words[0][1])
                   : "r"(slice + token * stride + column * 64 + quad * 16 + half * 8)
                   : "memory");
    } else {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const uint4 x = load_shared(slice + (g * 8 + n) * stride + column * 64 + quad * 16);
        words[g][0] = x.x, words[g][1] = x.y, words[g][2] = x.z, words[g][3] = x.w;
      }
    }
  }
};

/**
 * The sums of one tile for T tokens. A lane's 16 bytes of a cell are 8 columns of one row. Up to four tokens the weights are the matrix
 * operand of 16 rows: the first four columns enter as row r, the others as row r + 8, and a token is two columns, one for each half. With
 * more tokens these are the 16 rows, and the weights are the 8 columns.
 */
template <int T, int Tiles>
struct TileSums {
  static constexpr bool kFew = T <= 4;
  static constexpr int kChains = kFew && Tiles >= 4 ? 1 : 2;  // sums that do not wait for each other
  float c[kChains][4] = {};

  /** Adds a cell of weights times the same columns of the input. */
  DEVICE void add(const uint4& w, const InputCell<T>& x, int chain) {
    if constexpr (kFew) {
      multiply_tile(c[chain % kChains], w.x, w.z, w.y, w.w, x.words[0][0], x.words[0][1]);
    } else {
      const auto& low = x.words[0];
      const auto other = [&](int i) { return T > 8 ? x.words[InputCell<T>::kGroups - 1][i] : 0; };
      multiply_tile(c[0], low[0], other(0), low[1], other(1), w.x, w.y);
      multiply_tile(c[kChains - 1], low[2], other(2), low[3], other(3), w.z, w.w);
    }
  }

  /** The sum over this warp's columns, to [quad of rows][token][4][kSumStride]. */
  DEVICE void store(float* sums, int tile) const {
    const int lane = opaque(::lane()), group = lane >> 2, quad = lane & 3;
    const auto at = [&](int row, int token) -> float& {
      return sums[(((tile * 2 + row / 4) * T + token) * 4 + row % 4) * kSumStride + warp()];
    };
    constexpr int kOther = kChains - 1;
    float sum[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = kOther ? c[0][i] + c[kOther][i] : c[0][i];
    if constexpr (kFew) {
      if (quad < T) at(group, quad) = sum[0] + sum[3];
    } else {
#pragma unroll
      for (int i = 0; i < T / 4; ++i) at(quad * 2 + i % 2, group + i / 2 * 8) = sum[i];
    }
  }
};

/** Where a product's input comes from: words [T][word_stride(K)] that others publish, or rows of a table. */
template <int K>
struct Input {
  Published words;        // none: from the table
  const Weight* table;    // [vocab][padded(K)]
  const int* ids;         // [T]
  const Weight* norm;     // [K] the weights of a norm in front; null: none
};

/** Brings a warp's part of a product's input into shared memory, times the weights of a norm. */
template <class P, int T, bool Normed>
struct InputReader {
  static constexpr int kSlice = P::kEach * 16;                   // words of a warp and token
  static constexpr int V = T > 1 || kSlice % 128 == 0 ? 4 : 2;   // words of a load
  static constexpr int kLoads = divide_up(T * kSlice / V, 32);   // of a lane
  static constexpr int kBatch = kLoads < 8 ? kLoads : 8;         // loads that are waited for together
  static constexpr bool kFull = T * kSlice / V % 32 == 0, kWhole = P::kExact && kFull;
  using Batch = Words<V>[kBatch];

  const Input<P::kColumns>& input;
  const int first = warp() * kSlice;
  Batch norm;         // weights of the norm for the batch that is stored next
  float squares = 0;  // of what this lane has read

  // Load n of a lane: V words of its token, word(n) the first of them.
  const int mine = opaque(lane());
  DEVICE int token() const { return mine % T; }
  DEVICE int word(int n) const { return n * (32 / T * V) + mine / T * V; }
  DEVICE bool wanted(int n, int j) const {
    return kWhole || ((kFull || word(n) < kSlice) && first + word(n) + j < P::kInputWords);
  }

  /** Loads the weights of the norm for the first batch: they need not be waited for. */
  DEVICE explicit InputReader(const Input<P::kColumns>& input) : input(input) {
    if constexpr (Normed) load_norm(0);
  }

  DEVICE void load_norm(int n0) {
    const auto* const from = reinterpret_cast<const unsigned*>(input.norm) + first;
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
#pragma unroll
      for (int j = 0; j < V; ++j) norm[k].v[j] = n0 + k < kLoads && wanted(n0 + k, j) ? __ldg(from + word(n0 + k) + j) : 0;
  }

  /** Loads the batch from load n0 on, without waiting for it. */
  DEVICE void load(Batch& v, int n0) const {
    const Published from = input.words.from((first + word(0)) * T + token() * V);
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int n = n0 + k;
      v[k] = Words<V>{};
      if (n < kLoads && wanted(n, 0)) v[k] = load_words<V>(from, n * 32 * V);
    }
  }

  DEVICE bool here(const Batch& v, int n0) const {
    bool all = true;
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (n0 + k < kLoads) all &= v[k].v[j] != kEmptyWord || !wanted(n0 + k, j);
    return all;
  }

  /** Waits for the words and stores them. Each batch is under way while the one before is stored. */
  DEVICE void take(Worker<T>& b) {
    char* const slice = b.s.work.slices[warp()];
    Batch v, next;
    const bool words = input.words.words != nullptr;
    if (words) b.delay(P::kStage), load(v, 0);
#pragma unroll
    for (int n0 = 0; n0 < kLoads; n0 += kBatch) {
      const bool more = n0 + kBatch < kLoads;
      if (words) {
        if (more) load(next, n0 + kBatch);
        bool loaded = true;
        warp_wait_until(b.s.flags, place_of(P::kStage, b.layer, kWaitsForWords), [&] {
          if (!loaded) load(v, n0);
          loaded = false;
          return here(v, n0);
        });
      } else {
        load_rows(v, n0);
      }
#pragma unroll
      for (int k = 0; k < kBatch; ++k)
        if (n0 + k < kLoads) store(slice, v[k], norm[k], n0 + k);
      if (Normed && more) load_norm(n0 + kBatch);
#pragma unroll
      for (int k = 0; k < kBatch && more; ++k) v[k] = next[k];
    }
    __syncwarp();
  }

  /** Rows of the table, in the place of words. */
  DEVICE void load_rows(Batch& v, int n0) const {
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int n = n0 + k;
      v[k] = Words<V>{};
      if (n >= kLoads) continue;
      const auto* row = reinterpret_cast<const unsigned*>(input.table + size_t(input.ids[token()]) * padded(P::kColumns));
#pragma unroll
      for (int j = 0; j < V; ++j) v[k].v[j] = wanted(n, j) ? __ldg(row + first + word(n) + j) : 0;
    }
  }

  DEVICE void store(char* slice, Words<V>& x, const Words<V>& scale, int n) {
    if constexpr (!kWhole) {
#pragma unroll
      for (int j = 0; j < V; ++j) x.v[j] = wanted(n, j) ? x.v[j] : 0;
    }
    if constexpr (Normed) {
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float2 pair = pair_of(x.v[j]);
        squares = fmaf(pair.x, pair.x, fmaf(pair.y, pair.y, squares));
        x.v[j] = times(x.v[j], scale.v[j]);
      }
    }
    if (!kFull && word(n) >= kSlice) return;
    unsigned* const to = reinterpret_cast<unsigned*>(slice + token() * slice_stride(P::kEach)) + word(n);
    if constexpr (V == 4)
      *reinterpret_cast<uint4*>(to) = make_uint4(x.v[0], x.v[1], x.v[2], x.v[3]);
    else
      *reinterpret_cast<uint2*>(to) = make_uint2(x.v[0], x.v[1]);
  }
};

/** Adds the lanes' sums of squares up, token by token. */
template <int T>
DEVICE void sum_squares(float (&to)[T][kWarps], float squares) {
#pragma unroll
  for (int other = 16; other >= T; other /= 2) squares += __shfl_xor_sync(~0u, squares, other);
  if (lane() < T) to[lane()][warp()] = squares;
}

/** One output of a product, in the hands of a lane. Its neighbour has the next row. */
struct Output {
  float y;
  int index;  // among the outputs of this block: [rows / 4][T][4], the residual's order
  int row, token;
  bool real;  // false: there are fewer outputs than lanes, this is the last one again

  /** Of the row after this one. */
  DEVICE float next(float x) const { return __shfl_down_sync(~0u, x, 1); }
  DEVICE float second_next(float x) const { return __shfl_down_sync(~0u, x, 2); }
  DEVICE bool even() const { return real && row % 2 == 0; }
};

/** The sum of what the warps have. */
DEVICE float sum_of_warps(const float* of_warp) {
  const float4 a = *reinterpret_cast<const float4*>(of_warp), b = *reinterpret_cast<const float4*>(of_warp + 4);
  return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}

/**
 * use(output) for every row of this block and every token; in a product with a norm in front the sum is divided by the root of the mean
 * square. Weights are read from the ring before the input is waited for.
 */
template <class P, int T, bool Normed, class Use>
DEVICE void product(Worker<T>& b, const Input<P::kColumns>& input, Use&& use) {
  constexpr int kTogether = tiles_together<P, T>();
  constexpr int kHeld = held_cells<T>() < kTogether * P::kEach ? held_cells<T>() : kTogether * P::kEach;
  constexpr int kParts = divide_up(P::kEach, kHeld);  // more than one only when a single tile does not fit
  const int tiles = P::tiles(b.index()), first_row = P::first(b.index()) * 8;
  const uint32_t slice = shared_address(b.s.work.slices[warp()]);
  const int turn = b.norm_turn;
  if constexpr (Normed) b.norm_turn ^= 1;
  InputReader<P, T, Normed> reader(input);
  int at = 0;
#pragma unroll 1
  for (int tile = 0; tile < (P::kMost <= kTogether ? 1 : tiles); tile += kTogether) {
    const int count = P::kEven && P::kMost % kTogether == 0 ? kTogether : min(kTogether, tiles - tile);
    TileSums<T, kTogether> sums[kTogether];
    if constexpr (kTogether * P::kEach % kSlotCells == 0) at = 0;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      constexpr int kRow = P::kEach < kHeld ? P::kEach : kHeld;
      uint4 v[kHeld];
      const int cells = kParts == 1 ? count * P::kEach : min(kHeld, P::kEach - part * kHeld);
      at = b.template read_cells<kHeld>(v, cells, at, P::kStage);
      if (tile == 0 && part == 0) {
        b.mark(P::kStage, 0);
        reader.take(b);
        b.mark(P::kStage, 1);
      }
#pragma unroll
      for (int column = 0; column < kRow; ++column) {
        if (column >= cells) break;
        InputCell<T> x;
        x.load(slice, slice_stride(P::kEach), part * kHeld + column);
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
          if (i * kRow + column < kHeld && i < count) sums[i].add(v[i * kRow + column], x, column);
      }
    }
    if (Normed && tile == 0) sum_squares<T>(b.s.squares[turn], reader.squares);
    float* const shared = b.s.sums[b.sum_turn];
    b.sum_turn ^= 1;
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      if (i < count) sums[i].store(shared, i);
    if (tile + kTogether >= tiles && at != 0) b.free_slots(1, 0), at = 0;  // its cells are in the sums
    b.mark(P::kStage, 2);
    b.sync();
    b.mark(P::kStage, 3);
    // A thread's outputs are all of one token, since 4 T divides kThreads.
    const int outputs = count * 8 * T, token = int(threadIdx.x) / 4 % T;
#pragma unroll
    for (int j = 0; j < divide_up(kTogether * 8 * T, kThreads); ++j) {
      if (j * kThreads + warp() * 32 >= outputs) break;
      float factor = 1;
      if constexpr (Normed) factor = rsqrtf(sum_of_warps(b.s.squares[turn][token]) * (1.0f / P::kColumns) + kNormEps);
      const int mine = j * kThreads + opaque(int(threadIdx.x)), o = min(mine, outputs - 1);
      const float y = sum_of_warps(shared + o * kSumStride) * factor;
      use(Output{y, tile * 8 * T + o, first_row + tile * 8 + o / 4 / T * 4 + o % 4, token, mine == o});
    }
    b.mark(P::kStage, 4);
  }
}
