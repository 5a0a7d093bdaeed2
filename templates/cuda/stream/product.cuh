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
    const int n = lane() >> 2, quad = lane() & 3;
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
 * The sums of one tile for T tokens. A lane's 16 bytes of a cell are 8 columns of one row: the first four enter as row r of the matrix
 * operand, the others as row r + 8. Up to four tokens, a token is two columns, one for each half; with more, each half is a product of its own.
 */
template <int T, int Tiles>
struct TileSums {
  static constexpr bool kFew = T <= 4;
  static constexpr int kGroups = kFew ? 1 : T / 8;
  static constexpr int kChains = kFew && Tiles >= 4 ? 1 : 2;  // sums that do not wait for each other
  float c[kGroups][kChains][4] = {};

  /** Adds a cell of weights times the same columns of the input. */
  DEVICE void add(const uint4& w, const InputCell<T>& x, int chain) {
    if constexpr (kFew) {
      multiply_tile(c[0][chain % kChains], w.x, w.z, w.y, w.w, x.words[0][0], x.words[0][1]);
    } else {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        multiply_tile(c[g][0], w.x, w.z, w.y, w.w, x.words[g][0], x.words[g][1]);
        multiply_tile(c[g][1], w.x, w.z, w.y, w.w, x.words[g][2], x.words[g][3]);
      }
    }
  }

  /** The sum over this warp's columns, to [quad of rows][token][4][kSumStride]. */
  DEVICE void store(float* sums, int tile) const {
    const int row = lane() >> 2, quad = lane() & 3;
    const auto at = [&](int token) { return (((tile * 2 + row / 4) * T + token) * 4 + row % 4) * kSumStride + warp(); };
    if constexpr (kFew) {
      constexpr int kOther = kChains - 1;
      const float sum = c[0][0][0] + c[0][0][3];
      if (quad < T) sums[at(quad)] = kOther ? sum + (c[0][kOther][0] + c[0][kOther][3]) : sum;
    } else {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        sums[at(g * 8 + 2 * quad)] = c[g][0][0] + c[g][1][2];
        sums[at(g * 8 + 2 * quad + 1)] = c[g][0][1] + c[g][1][3];
      }
    }
  }
};

/** Where a product's input comes from: words [T][word_stride(K)] that others publish, or rows of a table. */
template <int K>
struct Input {
  const unsigned* words;  // null: from the table
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
  static constexpr int kBatch = kLoads < 8 ? kLoads : 8;         // loads that are under way together
  static constexpr int kNorms = Normed && T == 1 ? kLoads : 1;
  static constexpr bool kFull = T * kSlice / V % 32 == 0, kWhole = P::kExact && kFull;

  const Input<P::kColumns>& input;
  const int first = warp() * kSlice;
  Words<V> norm[kNorms];
  float squares = 0;  // of what this lane has read: all of token lane() % T, since T divides 32

  // Load n of a lane: V words of one token, word(n) the first of them.
  DEVICE static int index(int n) { return n * 32 + lane(); }
  DEVICE static int token(int n) { return T == 1 ? 0 : index(n) % T; }
  DEVICE static int word(int n) { return index(n) / T * V; }
  DEVICE bool wanted(int n, int j) const {
    return kWhole || ((kFull || word(n) < kSlice) && first + word(n) + j < P::kInputWords);
  }

  DEVICE explicit InputReader(const Input<P::kColumns>& input) : input(input) {
    if constexpr (Normed && T == 1) {
#pragma unroll
      for (int n = 0; n < kLoads; ++n) load_norm(norm[n], n);
    }
  }

  DEVICE void load_norm(Words<V>& to, int n) const {
#pragma unroll
    for (int j = 0; j < V; ++j) to.v[j] = wanted(n, j) ? __ldg(reinterpret_cast<const unsigned*>(input.norm) + first + word(n) + j) : 0;
  }

  /** Loads the batch from load n0 on, without waiting for it. */
  DEVICE void load(Words<V> (&v)[kBatch], int n0) const {
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int n = n0 + k;
      v[k] = Words<V>{};
      if (n < kLoads && wanted(n, 0)) v[k] = load_words<V>(input.words + (first + word(n)) * T + token(n) * V);
    }
  }

  DEVICE bool here(const Words<V> (&v)[kBatch], int n0) const {
    bool all = true;
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (n0 + k < kLoads) all &= v[k].v[j] != kEmptyWord || !wanted(n0 + k, j);
    return all;
  }

  /** Waits for the words and stores them. */
  DEVICE void take(Worker<T>& b) {
    char* const slice = b.s.work.slices[warp()];
    if (input.words) b.delay(P::kStage);
#pragma unroll
    for (int n0 = 0; n0 < kLoads; n0 += kBatch) {
      Words<V> v[kBatch];
      if (input.words)
        warp_wait_until(b.s.flags, place_of(P::kStage, b.layer, kWaitsForWords), [&] { return load(v, n0), here(v, n0); });
      else
        load_rows(v, n0);
#pragma unroll
      for (int k = 0; k < kBatch; ++k)
        if (n0 + k < kLoads) store(slice, v[k], n0 + k);
    }
    __syncwarp();
  }

  /** Rows of the table, in the place of words. */
  DEVICE void load_rows(Words<V> (&v)[kBatch], int n0) const {
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int n = n0 + k;
      v[k] = Words<V>{};
      if (n >= kLoads) continue;
      const auto* row = reinterpret_cast<const unsigned*>(input.table + size_t(input.ids[token(n)]) * padded(P::kColumns));
#pragma unroll
      for (int j = 0; j < V; ++j) v[k].v[j] = wanted(n, j) ? __ldg(row + first + word(n) + j) : 0;
    }
  }

  DEVICE void store(char* slice, Words<V>& x, int n) {
    if constexpr (!kWhole) {
#pragma unroll
      for (int j = 0; j < V; ++j) x.v[j] = wanted(n, j) ? x.v[j] : 0;
    }
    if constexpr (Normed) {
      Words<V> scale;
      if constexpr (T == 1)
        scale = norm[n];
      else
        load_norm(scale, n);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        const float2 pair = pair_of(x.v[j]);
        squares = fmaf(pair.x, pair.x, fmaf(pair.y, pair.y, squares));
        x.v[j] = times(x.v[j], scale.v[j]);
      }
    }
    if (!kFull && word(n) >= kSlice) return;
    unsigned* const to = reinterpret_cast<unsigned*>(slice + token(n) * slice_stride(P::kEach)) + word(n);
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

/** One output of a product, in the hands of four lanes. Neighbouring rows lie four lanes apart. */
struct Output {
  float y;
  int index;  // among the outputs of this block: [rows / 4][T][4], the residual's order
  int row, token;
  bool first;  // the lane of the four that acts

  /** Of the row after this one. */
  DEVICE float next(float x) const { return __shfl_down_sync(~0u, x, 4); }
  DEVICE float second_next(float x) const { return __shfl_down_sync(~0u, x, 8); }
  DEVICE bool even() const { return first && row % 2 == 0; }
};

DEVICE float quad_sum(float2 x) {
  float a = x.x + x.y;
  a += __shfl_xor_sync(~0u, a, 1);
  return a + __shfl_xor_sync(~0u, a, 2);
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
      if (Normed && tile == 0 && part == 0) sum_squares<T>(b.s.squares[turn], reader.squares);
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
    float* const shared = b.s.sums[b.sum_turn];
    b.sum_turn ^= 1;
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      if (i < count) sums[i].store(shared, i);
    if (tile + kTogether >= tiles && at != 0) b.free_slot(), at = 0;
    b.mark(P::kStage, 2);
    b.sync();
    b.mark(P::kStage, 3);
    // A thread's outputs are all of one token, since T divides 16.
    const int quad = lane() & 3, first = int(threadIdx.x) / 4, token = first / 4 % T;
    float factor = 1;
    if constexpr (Normed) {
      const float square = quad_sum(*reinterpret_cast<const float2*>(b.s.squares[turn][token] + quad * 2));
      factor = rsqrtf(square * (1.0f / P::kColumns) + kNormEps);
    }
#pragma unroll
    for (int j = 0; j < divide_up(kTogether * 8 * T, kThreads / 4); ++j) {
      const int o = first + j * (kThreads / 4);
      if (o >= count * 8 * T) break;
      const float y = quad_sum(*reinterpret_cast<const float2*>(shared + o * kSumStride + quad * 2)) * factor;
      use(Output{y, tile * 8 * T + o, first_row + tile * 8 + o / 4 / T * 4 + o % 4, token, quad == 0});
    }
    b.mark(P::kStage, 4);
  }
}
