// A product: this block's tiles of 8 rows times the input that other blocks publish, each warp its part of the columns.
#pragma once
#include "tensor.cuh"
#include "rows.cuh"

/** A lane's part of 32 columns of the input, as the matrix instruction takes it. */
template <int T>
struct InputCell {
  static constexpr bool kFew = T <= 4;
  static constexpr int kGroups = kFew ? 1 : T / 8;
  unsigned words[kGroups][kFew ? 2 : 4];

  /** Where a lane reads column 0 of its token, or of its first one. */
  DEVICE static int place(int lane, int stride) {
    const int token = kFew ? lane >> 3 & (T - 1) : lane >> 2;
    return token * stride + ((lane & 3) * 16 ^ turned_bytes(token)) + (kFew ? (lane >> 2 & 1) * 8 : 0);
  }

  /** From that place on. */
  DEVICE void load(uint32_t own, int stride, int column) {
    if constexpr (kFew) {
      const uint2 x = load_shared_pair(own + column * 64);
      words[0][0] = x.x, words[0][1] = x.y;
    } else {
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const uint4 x = load_shared(own + g * 8 * stride + column * 64);
        words[g][0] = x.x, words[g][1] = x.y, words[g][2] = x.z, words[g][3] = x.w;
      }
    }
  }
};

/** A lane's sums over this warp's columns, to [quad of rows][token][4][kSumStride]. From eight tokens on a warp has another place in the row of
 *  each output, so that its lanes store to banks of their own. */
template <int T, int N>
DEVICE void store_sums(float* sums, int tile, const float (&sum)[N]) {
  const unsigned lane = unsigned(opaque(::lane())), group = lane >> 2, quad = lane & 3;
  const auto at = [&](unsigned row, unsigned token) -> float& {
    const unsigned place = T < 8 ? unsigned(warp()) : (unsigned(warp()) + token % 8 / 2 * 2 + row / 4) % kWarps;
    return sums[(((unsigned(tile) * 2 + row / 4) * T + token) * 4 + row % 4) * kSumStride + place];
  };
  if constexpr (T <= 4) {
    if (quad < T) at(group, quad) = sum[0];
  } else {
#pragma unroll
    for (int i = 0; i < T / 4; ++i) at(quad * 2 + i % 2, group + i / 2 * 8) = sum[i];
  }
}

/** Where a lane of few tokens reads column 0 of its warp's input, and stores its sum of tile 0. */
struct KeptPlaces {
  uint32_t input = 0;
  int sum = 0;

  template <int T>
  DEVICE void keep(uint32_t slice, int stride) {
    input = uint32_t(opaque(int(slice) + InputCell<T>::place(lane(), stride)));
    sum = opaque((((lane() >> 4) * T + (lane() & 3)) * 4 + (lane() >> 2 & 3)) * kSumStride + warp());
  }
};

/** Stores a lane's sums; from kept places where they are. */
template <int T, int N>
DEVICE void store_sums(float* sums, int tile, const float (&sum)[N], const KeptPlaces& kept) {
  if constexpr (kKeepsPlaces<T>) {
    if ((lane() & 3) < T) sums[tile * (kRowTile * T * kSumStride) + kept.sum] = sum[0];
  } else {
    store_sums<T>(sums, tile, sum);
  }
}

/**
 * The sums of one tile for T tokens. A lane's part of a cell is 8 columns of one row. Up to four tokens the weights are the matrix
 * operand of 16 rows: the first four columns enter as row r, the others as row r + 8, and a token is two columns, one for each half. With
 * more tokens these are the 16 rows, and the weights are the 8 columns. Chains: sums that do not wait for each other, one or two.
 */
template <int T, int Chains>
struct TileSums {
  static constexpr bool kFew = T <= 4;
  float c[Chains][4] = {};

  /** Adds a cell of weights times the same columns of the input. */
  template <class W>
  DEVICE void add(const Cell<W, T>& cell, const InputCell<T>& x, int chain) {
    const uint4& w = cell.numbers;
    if constexpr (kFew) {
      multiply_tile(c[chain % Chains], w.x, w.z, w.y, w.w, x.words[0][0], x.words[0][1]);
    } else {
      const auto& low = x.words[0];
      const auto other = [&](int i) { return T > 8 ? x.words[InputCell<T>::kGroups - 1][i] : 0; };
      multiply_tile(c[0], low[0], other(0), low[1], other(1), w.x, w.y);
      multiply_tile(c[Chains - 1], low[2], other(2), low[3], other(3), w.z, w.w);
    }
  }

  DEVICE void store(float* sums, int tile, const KeptPlaces& kept) const {
    constexpr int kOther = Chains - 1;
    float sum[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = kOther ? c[0][i] + c[kOther][i] : c[0][i];
    if constexpr (kFew) sum[0] += sum[3];
    store_sums<T>(sums, tile, sum, kept);
  }
};

/** A lane's part of 32 columns of the input for cells of W. */
template <class W, int T, bool = kHasLeast<W>>
struct InputOf : InputCell<T> {
  DEVICE void add_up() {}
};

/** With what each row of such a cell has its minimum times: the sum of the input, of few tokens for both sums together. */
template <class W, int T>
struct InputOf<W, T, true> : InputCell<T> {
  static constexpr int kSums = InputCell<T>::kFew ? 1 : 4;
  float sums[kSums] = {};

  DEVICE void add_up() {
    constexpr unsigned kOnes = std::is_same_v<Wire, bf16> ? 0x3f803f80 : 0x3c003c00;
    Cell<W, T> ones;
    ones.numbers = make_uint4(kOnes, kOnes, kOnes, kOnes);
    TileSums<T, 1> all;
    all.add(ones, *this, 0);
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = InputCell<T>::kFew ? all.c[0][0] + all.c[0][3] : all.c[0][i];
  }
};

/** The same of cells with scales: the sum of a cell, on its own, is scaled and added. */
template <int T>
struct ScaledSums {
  static constexpr bool kFew = T <= 4;
  float sum[kFew ? 2 : 4] = {};  // of few tokens: of the columns that enter as row r, and of the others

  template <class W>
  DEVICE void add(const Cell<W, T>& cell, const InputOf<W, T>& x, int) {
    TileSums<T, 1> one;
    one.add(cell, x, 0);
    if constexpr (kHasLeast<W>) {
#pragma unroll
      for (int i = 0; i < (kFew ? 2 : 4); ++i) {
        const float2 by = cell.scales.of(kFew ? 0 : i % 2);
        sum[i] = fmaf(by.x, one.c[0][kFew ? i * 3 : i], sum[i]);
        if (i < InputOf<W, T>::kSums) sum[i] = fmaf(by.y, x.sums[i], sum[i]);
      }
    } else if constexpr (kFew) {
      sum[0] = fmaf(cell.scales.scale, one.c[0][0], sum[0]);
      sum[1] = fmaf(cell.scales.scale, one.c[0][3], sum[1]);
    } else {
      const float2 scales = cell.scales.both();
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] = fmaf(i % 2 ? scales.y : scales.x, one.c[0][i], sum[i]);
    }
  }

  DEVICE void store(float* sums, int tile, const KeptPlaces& kept) const {
    if constexpr (kFew) {
      const float both[] = {sum[0] + sum[1]};
      store_sums<T>(sums, tile, both, kept);
    } else {
      store_sums<T>(sums, tile, sum, kept);
    }
  }
};

/** Rows of the embedding, in the place of words: what the residual stream is in front of the first layer. */
struct Table {
  decltype(ModelWeights::embedding) rows = nullptr;  // [vocab][padded(kHidden)]
  const int* ids = nullptr;      // [T]
};

/** Words of T tokens, of a VectorExchange, that others publish; none: rows of the table. Every product gathers the columns of its own. */
struct Gather {
  static constexpr bool kNormed = false;
  Published words;
  Table table = {};
  const Vector* norm = nullptr;  // [K] the weights of a norm
};

/** The same, normed: the weights go in at once, the factor into the sums. */
struct NormedGather : Gather {
  static constexpr bool kNormed = true;
};

/**
 * Sums of squares of a warp's part of an input, Slice words of each token: what a lane has read of its token. Up to four tokens it keeps a
 * sum for each lane that would have read these words of one token alone, and they are added up in the order of that.
 */
template <int T, int Slice>
struct SquareSums {
  static constexpr int kSums = T <= 4 ? T : 1;
  static constexpr int kNeighbours = T > 1 && T <= 4 && Slice % 128 != 0 ? 2 : 1;  // of one token alone, that read next to each other
  float sums[kSums] = {};

  /** Of word j of load n. */
  DEVICE float& of(int n, int j) { return sums[kSums == 1 ? 0 : n % (kSums / kNeighbours) * kNeighbours + j / 2 % kNeighbours]; }

  /** The token's sum over the warp's words, by the whole warp. */
  DEVICE float total() const {
    float sum[kSums];
#pragma unroll
    for (int i = 0; i < kSums; ++i) sum[i] = sums[i];
#pragma unroll
    for (int half = kSums / 2; half >= kNeighbours; half /= 2)
#pragma unroll
      for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
#pragma unroll
    for (int other = 16; other >= T; other /= 2)
#pragma unroll
      for (int i = 0; i < kNeighbours; ++i) sum[i] += __shfl_xor_sync(~0u, sum[i], other);
    return kNeighbours == 2 ? sum[0] + sum[1] : sum[0];
  }
};

/** Brings a warp's part of a product's input into shared memory, times the weights of a norm. */
template <class P, int T, class Input>
struct InputReader {
  static constexpr bool Normed = Input::kNormed;
  static constexpr int kSlice = P::kWarpCells * 16;                   // words of a warp and token, at most
  static constexpr int V = T > 1 || kSlice % 128 == 0 ? 4 : 2;   // words of a load
  static constexpr int kLoads = divide_up(T * kSlice / V, 32);   // of a lane
  static constexpr int kBatch = kLoads < 8 ? kLoads : 8;         // loads that are waited for together
  static constexpr bool kFull = T * kSlice / V % 32 == 0, kWhole = P::kExact && kFull;
  using Batch = Words<V>[kBatch];

  const Input& input;
  const int first = P::Columns::first(warp()) * 16, count = min(P::Columns::cells(warp()) * 16, P::kInputWords - first);  // words of this warp
  Batch norm;  // weights of the norm for the batch that is stored next
  SquareSums<T, kSlice> squares;

  // Load n of a lane: V words of its token, word(n) the first of them.
  const int mine = opaque(lane());
  DEVICE int token() const { return mine % T; }
  DEVICE int word(int n) const { return n * (32 / T * V) + mine / T * V; }
  DEVICE bool wanted(int n, int j) const {
    return kWhole || word(n) + j < count;
  }

  /** Loads the weights of the norm for the first batch: they need not be waited for. */
  DEVICE explicit InputReader(const Input& input) : input(input) {
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
    const Published from = input.words.from(spread_at<T>(first + word(0), token()));
    constexpr int kStep = spread_at<T>(32 / T * V, 0);  // from one load to the next
    static_assert(32 / T * V % (kLine / 2) == 0 || T > 1);
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int n = n0 + k;
      v[k] = Words<V>{};
      if (n < kLoads && wanted(n, 0)) v[k] = load_words<V>(from, n * kStep);
    }
  }

  DEVICE bool here(const Batch& v, int n0) const {
    bool all = true;
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (n0 + k < kLoads) all &= v[k].v[j] != kSentinel || !wanted(n0 + k, j);
    return all;
  }

  /** Waits for the words and stores them. Each batch is under way while the one before is stored. */
  DEVICE void take(Cta<T>& cta) {
    char* const slice = cta.s.work.slices[warp()];
    Batch v, next;
    const bool words = input.words.words != nullptr;
    if (words) cta.delay(P::kStage), load(v, 0);
#pragma unroll
    for (int n0 = 0; n0 < kLoads; n0 += kBatch) {
      const bool more = n0 + kBatch < kLoads;
      if (words) {
        if (more) load(next, n0 + kBatch);
        bool loaded = true;
        warp_wait_until(cta.s.flags, place_of(P::kStage, cta.layer, kWaitsForWords), [&] {
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
      if (n < kLoads && wanted(n, 0)) v[k] = words_of<V>(stored_row(input.table.rows, input.table.ids[token()], P::kColumns), first + word(n));
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
        float& sum = squares.of(n, j);
        sum = fmaf(pair.x, pair.x, fmaf(pair.y, pair.y, sum));
        x.v[j] = times(x.v[j], scale.v[j]);
      }
    }
    if (!kFull && word(n) >= kSlice) return;
    unsigned* const to = reinterpret_cast<unsigned*>(slice + token() * slice_stride(P::kWarpCells)) + turned(word(n), token());
    if constexpr (V == 4)
      *reinterpret_cast<uint4*>(to) = make_uint4(x.v[0], x.v[1], x.v[2], x.v[3]);
    else
      *reinterpret_cast<uint2*>(to) = make_uint2(x.v[0], x.v[1]);
  }
};

/** Adds the lanes' sums of squares up, token by token. */
template <int T, class Squares>
DEVICE void sum_squares(float (&to)[T][kWarps], const Squares& squares) {
  const float total = squares.total();
  if (lane() < T) to[lane()][warp()] = total;
}

/** One output of a product, in the hands of a lane. Its neighbour has the next row. */
struct Output {
  float y;
  int index;  // among the outputs of this block: [rows / 4][T][4], the residual's order
  int row, token;
  bool in_bounds;  // false: there are fewer outputs than lanes, this is the last one again

  /** Of the row after this one. */
  DEVICE float next(float x) const { return __shfl_down_sync(~0u, x, 1); }
  DEVICE float second_next(float x) const { return __shfl_down_sync(~0u, x, 2); }
  DEVICE bool even() const { return in_bounds && row % 2 == 0; }
};

/** 1 / root of x, which is at least an eps: a square and its reciprocal need no care for the smallest numbers. */
DEVICE float inverse_root(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/** The sum of what the warps have. */
DEVICE float sum_of_warps(const float* of_warp) {
  const float4 a = *reinterpret_cast<const float4*>(of_warp), b = *reinterpret_cast<const float4*>(of_warp + 4);
  return ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
}

/** What an epilogue that needs nothing early loads early. */
struct Nothing {};
struct NothingEarly {
  DEVICE Nothing operator()(int, int) const { return {}; }
};

/**
 * use(output, early) for every row of this block and every token; in a product with a norm in front the sum is divided by the root of the
 * mean square. Weights are read from the ring before the input is waited for, and so is what load_early(row, token) of the first tiles returns.
 */
template <class P, int T, class Input, class LoadEarly, class Use>
DEVICE void product(Cta<T>& cta, const Input& input, LoadEarly&& load_early, Use&& use) {
  constexpr bool kNormed = Input::kNormed;
  using G = Group<P, T>;
  constexpr int kTogether = G::kTiles, kHeld = G::kHeld;
  using Stored = typename P::Stored;
  constexpr int kChains = T <= 4 && Group<P, 1>::kTiles >= 4 ? 1 : 2;  // up to four tokens are summed in the order of one
  using Sums = std::conditional_t<Cell<Stored, T>::kScaled, ScaledSums<T>, TileSums<T, kChains>>;
  constexpr int kRounds = divide_up(G::kMeet * kRowTile * T, kThreads);  // outputs of a thread
  const int tiles = P::tiles(cta.index()), first_row = P::first(cta.index()) * kRowTile;
  if (P::kPassedBy && tiles == 0) return;
  const uint32_t slice = shared_address(cta.s.work.slices[warp()]);
  KeptPlaces kept;
  if constexpr (kKeepsPlaces<T>) kept.keep<T>(slice, slice_stride(P::kWarpCells));
  const int norm_buffer = cta.norm_buffer;
  if constexpr (kNormed) cta.norm_buffer ^= 1;
  InputReader<P, T, Input> reader(input);
  decltype(load_early(0, 0)) early[kRounds];
  int at = 0;  // groups of the slot that have been read
#pragma unroll 1
  for (int tile = 0; tile < (P::kMostTiles <= G::kMeet ? 1 : tiles); tile += G::kMeet) {
    const int met = P::kEven && P::kMostTiles % G::kMeet == 0 ? G::kMeet : min(G::kMeet, tiles - tile);
    // A thread's outputs are all of one token, since 4 T divides kThreads.
    const int outputs = met * kRowTile * T, token = int(threadIdx.x) / 4 % T;
    const auto output_of = [&](int round) { return min(round * kThreads + opaque(int(threadIdx.x)), outputs - 1); };
    const auto row_of = [&](int o) { return first_row + tile * kRowTile + o / 4 / T * 4 + o % 4; };
#pragma unroll
    for (int round = 0; round < kRounds; ++round) early[round] = load_early(row_of(output_of(round)), token);
    float* const shared = cta.s.sums[cta.sum_buffer];
    cta.sum_buffer ^= 1;
#pragma unroll 1
    for (int first = 0; first < (G::kMeet == kTogether ? 1 : met); first += kTogether) {
      const int count = P::kEven && P::kMostTiles % kTogether == 0 ? kTogether : min(kTogether, met - first);
      const bool begins = tile == 0 && first == 0, ends = G::kShare == 1 || at + 1 == G::kShare || tile + first + kTogether >= tiles;
      Sums sums[kTogether];
#pragma unroll
      for (int part = 0; part < G::kParts; ++part) {
        constexpr int kRow = P::kWarpCells < kHeld ? P::kWarpCells : kHeld;
        Cell<Stored, T> v[kHeld];
        const int from = part * kHeld, there = G::kParts == 1 ? count * P::kWarpCells : G::kCells;
        cta.template read_cells<G>(v, from, at, there, ends && part == G::kParts - 1, P::kStage);
        if (begins && part == 0) {
          cta.mark(P::kStage, kPhaseCompute);
          reader.take(cta);
          cta.mark(P::kStage, kPhaseOthers);
        }
        const uint32_t own = kKeepsPlaces<T> ? kept.input : slice + InputCell<T>::place(opaque(lane()), slice_stride(P::kWarpCells));
#pragma unroll
        for (int column = 0; column < kRow; ++column) {
          if (from + column >= P::kWarpCells) break;
          InputOf<Stored, T> x;
          x.load(own, slice_stride(P::kWarpCells), from + column);
          x.add_up();
#pragma unroll
          for (int i = 0; i < kTogether; ++i) sums[i].add(v[i * kRow + column], x, from + column);
        }
      }
      if constexpr (G::kShare > 1) at = ends ? 0 : at + 1;
      if (kNormed && begins) sum_squares<T>(cta.s.squares[norm_buffer], reader.squares);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) sums[i].store(shared, first + i, kept);
    }
    cta.mark(P::kStage, kPhaseCompute);
    cta.sync();
    cta.mark(P::kStage, kPhaseMeet);
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      if (round * kThreads + warp() * 32 >= outputs) break;
      float factor = 1;
      if constexpr (kNormed) factor = inverse_root(sum_of_warps(cta.s.squares[norm_buffer][token]) * (1.0f / P::kColumns) + kNormEps);
      const int o = output_of(round);
      const float y = sum_of_warps(shared + o * kSumStride) * factor;
      use(Output{y, tile * kRowTile * T + o, row_of(o), token, round * kThreads + int(threadIdx.x) == o}, early[round]);
    }
    cta.mark(P::kStage, kPhasePublish);
  }
}

/** use(output) for the rows that a product of an earlier stage left in this block. */
template <class P, int T, class Use>
DEVICE void kept_rows(Cta<T>& cta, const float* kept, Use&& use) {
  const int outputs = P::tiles(cta.index()) * kRowTile * T, first_row = P::first(cta.index()) * kRowTile;
  const int token = int(threadIdx.x) / 4 % T;
  for (int first = warp() * 32; first < outputs; first += kThreads) {
    const int i = first + lane(), o = min(i, outputs - 1);
    use(Output{kept[o], o, first_row + o / 4 / T * 4 + o % 4, token, i == o});
  }
}

/** Publishes a row with the one after it, by the lane of the first. */
template <int T, int Rows, class To>
DEVICE void publish_row(const To& to, int epoch, const Output& o, float value) {
  const float next = o.next(value);
  if (o.even() && o.row < Rows) to.publish(epoch, To::template at<T>(o.row / 2, o.token), pair_word(value, next));
}

/** The same where the rows of two outputs take turns: `value`, of both, is with the first of each two rows. */
template <int T, int Rows, class To>
DEVICE void publish_gated_row(const To& to, int epoch, const Output& o, float value) {
  const float next = o.second_next(value);
  if (o.in_bounds && o.row % 4 == 0 && o.row < 2 * Rows) to.publish(epoch, To::template at<T>(o.row / 4, o.token), pair_word(value, next));
}

/** This block's part of the residual stream, which it keeps in float: plus a branch. */
template <int T>
DEVICE void keep_residual(Cta<T>& cta, const Output& o, float value) {
  if (o.in_bounds) cta.s.residual[o.index] = value;
}
