// A product for many tokens: tiles of tokens x rows, each by one block, and what becomes of the results.
#pragma once
#include "steps.cuh"

namespace tiles {

template <int N>
struct Values {
  float v[N];
  DEVICE float& operator[](int i) { return v[i]; }
  DEVICE float operator[](int i) const { return v[i]; }
};

/** f(0), f(1), ... */
template <int N, class F>
DEVICE Values<N> each(F&& f) {
  Values<N> all;
#pragma unroll
  for (int i = 0; i < N; ++i) all[i] = f(i);
  return all;
}

/** Where eight neighbouring rows of a product, the first a multiple of eight, meet one token. */
struct Place {
  int token, row;
  bool in_bounds;
};

/** Their results; 0 behind the last row. */
struct Piece : Place {
  Values<8> y;
  int lanes, part;  // those that have rows of this token, neighbours all, have a part of its squares

  /** The sum of these lanes. */
  DEVICE float sum(float x) const {
#pragma unroll
    for (int lane = 1; lane < lanes; lane *= 2) x += __shfl_xor_sync(~0u, x, lane);
    return x;
  }
};

/** The tiles of a product. */
template <class P, int K>
using TileOf = Shape<kKernels[K].tokens, kKernels[K].rows[P::kNumber], slot_bytes(kKernels[K])>;

/** Parts that the squares of a token are summed in by the product that makes them: one for each tile of rows and warp of it. */
template <class P, int K>
constexpr int kParts = divide_up(P::kRows, TileOf<P, K>::kRows) * TileOf<P, K>::kRowWarps;

/** An input that is complete. */
struct Input {
  const char* groups;  // of 8 tokens
  DEVICE float factor(int) const { return 1.0f; }
};

/** An input that lacks the factor of its norm: the squares of its tokens, in so many parts. */
template <int Parts>
struct NormedInput {
  static_assert(Parts <= kSquareParts, "see codegen/schemes/tiles/sizes.ts");
  const char* groups;
  const float* squares;  // [tokens][kSquareParts]

  /** By the four lanes that have a token. */
  DEVICE float factor(int token) const {
    float square = 0;
#pragma unroll
    for (int part = lane() % 4; part < Parts; part += 4) square += squares[size_t(token) * kSquareParts + part];
    return rsqrtf(quad_sum(square) * (1.0f / kHidden) + kNormEps);
  }
};

/** What does nothing, and its result. */
struct Nothing {
  template <class... T>
  DEVICE Nothing operator()(const T&...) const {
    return {};
  }
};

/** What becomes of the results of a product. */
template <class Rows, class Read, class Use>
struct Epilogue {
  Rows read_rows;  // (row): what it reads of memory for eight rows, whatever the token
  Read read;       // (place): the same of eight rows and a token
  Use use;         // (piece, of the rows, of the place); by whole warps

  /** Nobody has to see all sums of a tile before they are used one by one. */
  template <class S>
  DEVICE void start(Block&, const float (&)[S::kMatrices][S::kGroups][4], const float (&)[S::kMatrices][2]) const {}
};

template <class Rows, class Read, class Use>
DEVICE auto epilogue_of(Rows rows, Read read, Use use) {
  return Epilogue<Rows, Read, Use>{rows, read, use};
}

/** Results of a warp on their way from the lanes that made them to those that use them, in shared memory: [tokens][groups of 8 rows], swizzled. */
template <class S>
struct Results {
  static constexpr int kTokens = S::kMatrices * 16, kSwizzle = S::kGroups < 4 ? S::kGroups - 1 : 3;
  static constexpr int kTurns = kTokens * S::kGroups / 32, kTurnTokens = 32 / S::kGroups;  // pieces of a lane, of which all lanes have one together
  static_assert(kWarps * kTokens * S::kGroups * 32 <= kResultsBytes, "see codegen/schemes/tiles/sizes.ts");
  float* mine;

  DEVICE explicit Results(const Block& b) : mine(reinterpret_cast<float*>(b.shared + kSlotsBytes) + warp() * (kTokens * S::kGroups * 8)) {}
  DEVICE float* at(int token, int group) const { return mine + (token * S::kGroups + ((group & ~3) + (group % 4 ^ (token & kSwizzle)))) * 8; }

  DEVICE void keep(const float (&sum)[S::kMatrices][S::kGroups][4], const float (&factor)[S::kMatrices][2]) const {
    __syncwarp();  // those of the tile before have been used
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int g = 0; g < S::kGroups; ++g) {
          const float* const y = sum[m][g] + half * 2;
          float* const to = at(m * 16 + half * 8 + lane() / 4, g) + lane() % 4 * 2;
          *reinterpret_cast<float2*>(to) = make_float2(y[0] * factor[m][half], y[1] * factor[m][half]);
        }
    __syncwarp();
  }

  DEVICE Values<8> take(int token, int group) const {
    const float4* const from = reinterpret_cast<const float4*>(at(token, group));
    const float4 a = from[0], b = from[1];
    return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
  }
};

/** The product of tokens [0, tokens) of an input, and its epilogue. */
template <class P, int K, class From, class Then>
DEVICE void product(Block& b, const char* layer_stream, int layer, const From& input, int tokens, const Then& epilogue) {
  using S = TileOf<P, K>;
  using R = Results<S>;
  constexpr int kBatch = R::kTurns < 2 ? R::kTurns : 2;  // what their epilogue reads is under way at once
  const Work<P, S> work(input.groups, layer_stream + P::kAt, layer, tokens);
  if (b.feeds) return Steps<P, S>::feed(b, work);
  Steps<P, S> steps(b, work);
  const R results(b);
  const int group = lane() % S::kGroups, own_token = lane() / S::kGroups;
  for (int tile = b.index(); tile < work.tiles; tile += b.count()) {
    const int first_token = work.token_tile(tile) * S::kTokens + S::first_token(warp());
    const int row = work.row_tile(tile) * S::kRows + (S::first_group(warp()) + group) * 8;
    const auto place = [&](int turn) {
      const int token = first_token + turn * R::kTurnTokens + own_token;
      return Place{token, row, token < tokens && row < P::kRows};
    };
    float sum[S::kMatrices][S::kGroups][4] = {}, factor[S::kMatrices][2];
    const auto of_rows = epilogue.read_rows(row < P::kRows ? row : 0);
    decltype(epilogue.read(Place{})) of_place[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) of_place[i] = epilogue.read(place(i));
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) factor[m][half] = input.factor(min(first_token + m * 16 + half * 8 + lane() / 4, tokens - 1));
    steps.sum(tile, sum);
    mark_inside(kPhaseCompute);
    epilogue.template start<S>(b, sum, factor);
    results.keep(sum, factor);
    const int part = work.row_tile(tile) * S::kRowWarps + S::row_warp(warp());
#pragma unroll 1
    for (int turn = 0; turn < R::kTurns; turn += kBatch) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const Values<8> y = results.take((turn + i) * R::kTurnTokens + own_token, group);
        epilogue.use(Piece{place(turn + i), y, S::kGroups, part}, of_rows, of_place[i]);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i)
        if (turn + kBatch < R::kTurns) of_place[i] = epilogue.read(place(turn + kBatch + i));
    }
    mark_inside(kPhasePublish);
  }
}

// ---- what becomes of a piece

DEVICE uint4 words_of(const Values<8>& v) { return make_uint4(pair_word(v[0], v[1]), pair_word(v[2], v[3]), pair_word(v[4], v[5]), pair_word(v[6], v[7])); }

/** To the input of product P. */
template <class P>
DEVICE void store_input(char* to, const Place& o, const Values<8>& value) {
  *reinterpret_cast<uint4*>(to + P::input_at(o.token, o.row)) = words_of(value);
}

/** To [tokens][Columns], rounded. */
template <int Columns>
DEVICE void store_rows(Wire* to, const Place& o, const Values<8>& value) {
  if (!o.in_bounds) return;
  Wire* const at = to + size_t(o.token) * Columns + o.row;
  if constexpr (Columns % 8 == 0) {
    *reinterpret_cast<uint4*>(at) = words_of(value);
  } else {
#pragma unroll
    for (int i = 0; i < 8; i += 2)
      if (o.row + i < Columns) *reinterpret_cast<unsigned*>(at + i) = pair_word(value[i], value[i + 1]);
  }
}

/** To the input of another product; one value of two rows, since the rows of two outputs take turns. */
template <class P>
DEVICE void store_gated(char* to, const Place& o, const Values<4>& value) {
  if (o.in_bounds) *reinterpret_cast<uint2*>(to + P::input_at(o.token, o.row / 2)) = make_uint2(pair_word(value[0], value[1]), pair_word(value[2], value[3]));
}

/** Biases of rows, which are in the order of the packed matrix. */
DEVICE Values<8> biases_of(const float* bias, int row) {
  return each<8>([&](int i) { return row + i < kQkvRows ? bias[PairedHeads{}(row + i)] : 0.0f; });
}

/** Of the residual stream [tokens][padded(kHidden)]. */
DEVICE Values<8> load_residual(const float* x, const Place& o) {
  if (!o.in_bounds) return {};
  const float4* const from = reinterpret_cast<const float4*>(x + size_t(o.token) * padded(kHidden) + o.row);
  const float4 a = from[0], b = from[1];
  return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
}

DEVICE void store_residual(float* x, const Place& o, const Values<8>& value) {
  if (!o.in_bounds) return;
  float4* const to = reinterpret_cast<float4*>(x + size_t(o.token) * padded(kHidden) + o.row);
  to[0] = make_float4(value[0], value[1], value[2], value[3]);
  to[1] = make_float4(value[4], value[5], value[6], value[7]);
}

/** What is normed ahead, for the product P: the residual stream times the weights of the norm, and its squares. */
template <class P>
struct Ahead {
  char* to;
  const Vector* weights;  // [kHidden]; null: nobody reads it
  float* squares;         // [tokens][kSquareParts]

  /** Of eight rows; 0 behind the last. */
  DEVICE Values<8> weights_of(int row) const {
    return each<8>([&](int i) { return weights && row + i < kHidden ? to_float(weights[row + i]) : 0.0f; });
  }

  DEVICE void take(const Piece& o, const Values<8>& x, const Values<8>& weights_of_rows) const {
    if (!weights) return;
    float square = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (o.row + i < kHidden) square = fmaf(x[i], x[i], square);
    square = o.sum(o.in_bounds ? square : 0.0f);
    if (lane() % o.lanes == 0 && o.in_bounds) squares[size_t(o.token) * kSquareParts + o.part] = square;
    if (o.in_bounds) store_input<P>(to, o, each<8>([&](int i) { return o.row + i < kHidden ? x[i] * weights_of_rows[i] : 0.0f; }));
  }
};

/** Logits [tokens][kVocab]. */
DEVICE void store_logits(float* logits, const Piece& o) {
  if (!o.in_bounds) return;
  float* const to = logits + size_t(o.token) * kVocab + o.row;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (o.row + i < kVocab) to[i] = kLogitFactor * o.y[i];
}

}  // namespace tiles
