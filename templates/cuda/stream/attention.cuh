// Attention of one kv head over a part of the cached positions, which arrive in the weight stream, and over the positions of this pass.
//
// A position is kRowBytes: its key, then its value, in chunks of 16 bytes that are swizzled so that eight positions lie in different banks.
// Query and key elements i and i + D/2, which the rotation turns together, are neighbours: a word is such a pair.
#pragma once
#include "product.cuh"

/** Chunk `chunk` of a position's row lies at this chunk. */
DEVICE int swizzled(int chunk, int position) { return chunk ^ ((position & 1) << 2 | (position >> 1 & 3)); }

/** Parts of the positions that are worked on: one block a head alone is faster while there are few. */
DEVICE int splits_at(int position) { return position < kSplitFrom ? 1 : kSplits; }

/** Tiles [begin, end) of the cached positions that split `split` of `splits` reads. */
DEVICE Range tiles_of(int position, int split, int splits) {
  const int tiles = divide_up(position, kTilePositions);
  return {dealt(tiles, split, splits), dealt(tiles, split + 1, splits)};
}

/** The blocks that work on attention: unit = head * kSplits + split. */
constexpr int kUnits = kKvHeads * kSplits;
static_assert(kUnits <= kBlocks, "a block works on one unit");

constexpr int kPairs = kHeadDim / 2, kPairSlots = divide_up(kPairs, 32);  // words of a head, and how many a lane has
constexpr float kLog2e = 1.44269504f;
constexpr float kFaint = -1e30f;  // the score of a position that does not count

/** 2^x. */
DEVICE float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/** The pair of a head's elements that a lane holds in place i. */
DEVICE int pair_at(int i) { return lane() + 32 * i; }

/** A lane's weights of a norm over a head. */
struct HeadScale {
  float2 scale[kPairSlots];

  DEVICE explicit HeadScale(const Weight* norm) {
    if constexpr (kQkNorm) {
#pragma unroll
      for (int i = 0; i < kPairSlots; ++i) {
        const int pair = min(pair_at(i), kPairs - 1);
        scale[i] = make_float2(to_float(norm[pair]), to_float(norm[pair + kPairs]));
      }
    }
  }
};

/** A lane's cosines and sines of a position. */
struct Rotation {
  float2 turn[kPairSlots];

  DEVICE void load(const Pass& pass, int position) {
    const float* const row = pass.rope + size_t(min(position, pass.context - 1)) * kHeadDim;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) turn[i] = __ldg(reinterpret_cast<const float2*>(row) + min(pair_at(i), kPairs - 1));
  }
};

/** The elements of a head's vector that a lane holds. */
struct HeadVector {
  unsigned w[kPairSlots];

  /** From words [first, first + kPairs) of a token. */
  template <int T>
  DEVICE void load(const Published& words, int first, int token) {
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i)
      w[i] = pair_at(i) < kPairs ? load_words<1>(words, word_at<T>(first + pair_at(i), token)).v[0] : 0;
  }

  DEVICE bool here() const {
    bool all = true;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) all &= w[i] != kEmptyWord;
    return all;
  }
};

/** RMSNorm over each head where the model has it, then the rotation by its position; the sums of all vectors run side by side. */
template <int N>
DEVICE void norm_and_rotate(HeadVector (&v)[N], const HeadScale* const (&norm)[N], const Rotation* const (&rotation)[N]) {
  float square[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    square[n] = 0;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      const float2 x = pair_of(v[n].w[i]);
      square[n] = fmaf(x.x, x.x, fmaf(x.y, x.y, square[n]));
    }
  }
  if constexpr (kQkNorm) {
#pragma unroll
    for (int other = 16; other > 0; other /= 2)
#pragma unroll
      for (int n = 0; n < N; ++n) square[n] += __shfl_xor_sync(~0u, square[n], other);
  }
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float factor = kQkNorm ? rsqrtf(square[n] * (1.0f / kHeadDim) + kNormEps) : 1.0f;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      float2 x = pair_of(v[n].w[i]);
      if constexpr (kQkNorm) x.x *= factor * norm[n]->scale[i].x, x.y *= factor * norm[n]->scale[i].y;
      const float2 turn = rotation[n]->turn[i];
      v[n].w[i] = pair_word(x.x * turn.x - x.y * turn.y, x.y * turn.x + x.x * turn.y);
    }
  }
}

/** Keys and values of 16 positions, in the registers of a warp. */
struct KvTile {
  static constexpr int kKeySteps = kHeadPad / 32, kValueSteps = kHeadPad / 16;
  uint4 keys[2][kKeySteps];    // positions lane / 4 and + 8, elements 32 k + 8 (lane % 4) on
  uint4 values[kValueSteps];   // transposed: rows are elements 16 i on, columns positions

  DEVICE void load(uint32_t rows, int first_position) {
    const int lane = opaque(::lane()), r = lane >> 2, quad = lane & 3;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int k = 0; k < kKeySteps; ++k)
        keys[half][k] = load_shared(rows + (half * 8 + r) * kRowBytes + swizzled(k * 4 + quad, first_position + half * 8 + r) * 16);
    const int row = (lane >> 4 & 1) * 8 + (lane & 7);
#pragma unroll
    for (int i = 0; i < kValueSteps; ++i) {
      const int chunk = kHeadPad / 8 + i * 2 + (lane >> 3 & 1);
      const uint32_t address = rows + row * kRowBytes + swizzled(chunk, first_position + row) * 16;
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(values[i].x), "=r"(values[i].y), "=r"(values[i].z), "=r"(values[i].w)
                   : "r"(address)
                   : "memory");
    }
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

/** Running softmax of eight queries: lane / 4 is a query in scores, 2 (lane % 4) and + 1 are in `out`. */
struct Running {
  float out[kHeadPad / 16][4] = {};
  float most = kFaint, mass = 0;
  bool first = true;  // no tile has been added

  /** counts(column): whether this lane's query sees that position of the tile. */
  template <class Counts>
  DEVICE void add(const KvTile& tile, const Weight* queries, int query_stride, int last_query, Counts&& counts) {
    const int lane = opaque(::lane()), quad = lane & 3;
    const Weight* const mine = queries + min(lane >> 2, last_query) * query_stride + quad * 8;
    float score[2][2][4] = {};
#pragma unroll
    for (int k = 0; k < KvTile::kKeySteps; ++k) {
      const uint4 q = *reinterpret_cast<const uint4*>(mine + k * 32);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        multiply_tile(score[half][0], q.x, 0, q.y, 0, tile.keys[half][k].x, tile.keys[half][k].y);
        multiply_tile(score[half][1], q.z, 0, q.w, 0, tile.keys[half][k].z, tile.keys[half][k].w);
      }
    }
    float s[2][2], top = most;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const bool seen = counts(half * 8 + quad * 2 + i);
        s[half][i] = seen ? (score[half][0][i] + score[half][1][i]) * (kAttnScale * kLog2e) : kFaint;
        top = fmaxf(top, s[half][i]);
      }
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    if (!first) {
      const float fade = power(most - top);
      mass *= fade;
      const float fade0 = __shfl_sync(~0u, fade, quad * 8), fade1 = __shfl_sync(~0u, fade, quad * 8 + 4);
#pragma unroll
      for (int i = 0; i < kHeadPad / 16; ++i) out[i][0] *= fade0, out[i][1] *= fade1, out[i][2] *= fade0, out[i][3] *= fade1;
    }
    first = false;
    most = top;
    float p[2][2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        p[half][i] = s[half][i] == kFaint ? 0.0f : power(s[half][i] - top);
        mass += p[half][i];
      }
    const unsigned p0 = pair_word(p[0][0], p[0][1]), p1 = pair_word(p[1][0], p[1][1]);
#pragma unroll
    for (int i = 0; i < kHeadPad / 16; ++i)
      multiply_tile(out[i], tile.values[i].x, tile.values[i].y, tile.values[i].z, tile.values[i].w, p0, p1);
  }

  /** Into the block's scratch, for queries [0, last]. */
  template <class Scratch>
  DEVICE void store(Scratch& to, int last_query) {
    mass += __shfl_xor_sync(~0u, mass, 1);
    mass += __shfl_xor_sync(~0u, mass, 2);
    const int lane = opaque(::lane()), r = lane >> 2, quad = lane & 3;
    if (quad == 0) to.most[warp()][r] = most, to.mass[warp()][r] = mass;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      if (quad * 2 + c > last_query) continue;
      float* const elements = to.out[warp()][quad * 2 + c][r];
#pragma unroll
      for (int i = 0; i < kHeadPad / 16; i += 2)
        *reinterpret_cast<float4*>(elements + 2 * i) = make_float4(out[i][c], out[i][c + 2], out[i + 1][c], out[i + 1][c + 2]);
    }
  }
};

/** The words of the parts: [head][split][query][pair][2] sums, then [head][split][query][2] maximum and mass. */
template <int T>
struct Parts {
  static constexpr int kQueries = kGroup * T;
  static constexpr int kItems = kQueries * kPairs;
  static constexpr int kSums = kKvHeads * kSplits * kItems * 2;
  static constexpr int kSize = kSums + kKvHeads * kSplits * kQueries * 2;
  DEVICE static int sum(int head, int item, int split) { return ((head * kSplits + split) * kItems + item) * 2; }
  DEVICE static int weight(int head, int query, int split) { return kSums + ((head * kSplits + split) * kQueries + query) * 2; }
};

/** The exchanges that attention uses. */
template <int T>
struct AttentionWords {
  Exchange<T * word_stride(kQkvRows)> qkv;
  Exchange<Parts<T>::kSize> parts;
  Exchange<T * word_stride(kQDim)> att;
};

/** Weights of the norms over query and key heads [kHeadDim]; null without. */
struct HeadNorms {
  const Weight *query, *key;
};

/** Where in the words of a token a head's queries, keys and values begin. */
DEVICE int query_word(int head) { return head * kPairs; }
DEVICE int key_word(int head) { return (kQDim + head * kHeadDim) / 2; }
DEVICE int value_word(int head) { return (kQDim + kKvDim + head * kHeadDim) / 2; }

/** Appends key and value of token `token` of the pass, rotated, to the cache; with more tokens also to the block's tile. By one warp. */
template <int T>
DEVICE void store_position(Worker<T>& b, const LayerWeights& w, int head, int token, const HeadVector& key, const HeadVector& value) {
  const int position = b.position + token;
  char* const row = b.s.own + token * kRowBytes;
  char* const cached = reinterpret_cast<char*>(w.cache) + (size_t(head) * b.pass.context + position) * kRowBytes;
  const bool kept = token < b.pass.tokens;
#pragma unroll
  for (int i = 0; i < divide_up(kHeadPad / 2, 32); ++i) {
    const int pair = pair_at(i);
    if (pair >= kHeadPad / 2) break;
    const bool real = i < kPairSlots && pair < kPairs;
    const int at = swizzled(pair / 4, position) * 16 + pair % 4 * 4;
    const int value_at = swizzled(kHeadPad / 8 + pair / 4, position) * 16 + pair % 4 * 4;
    const unsigned k = real ? key.w[i < kPairSlots ? i : 0] : 0, v = real ? value.w[i < kPairSlots ? i : 0] : 0;
    if constexpr (T > 1) {
      *reinterpret_cast<unsigned*>(row + at) = k;
      *reinterpret_cast<unsigned*>(row + value_at) = v;
    }
    if (kept) {
      *reinterpret_cast<unsigned*>(cached + at) = k;
      *reinterpret_cast<unsigned*>(cached + value_at) = v;
    }
  }
  __syncwarp();
}

/** The only position of a pass, which needs no tile: its score with queries [first, first + N), its value. By one warp. */
template <int N>
DEVICE void keep_own(AttentionScratch<1>& to, const HeadVector (&queries)[N], const HeadVector& key, const HeadVector& value, int first) {
  float score[N] = {};
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      const float2 q = pair_of(queries[n].w[i]), k = pair_of(key.w[i]);
      score[n] = fmaf(q.x, k.x, fmaf(q.y, k.y, score[n]));
    }
#pragma unroll
  for (int other = 16; other > 0; other /= 2)
#pragma unroll
    for (int n = 0; n < N; ++n) score[n] += __shfl_xor_sync(~0u, score[n], other);
#pragma unroll
  for (int n = 0; n < N; ++n)
    if (lane() == 0 && first + n < kGroup) to.own_score[first + n] = score[n] * (kAttnScale * kLog2e);
#pragma unroll
  for (int i = 0; i < kPairSlots; ++i)
    if (pair_at(i) < kPairs) to.own_value[pair_at(i)] = value.w[i];
}

/** Key and value of token `token`: waited for, rotated, stored. By one warp. */
template <int T>
DEVICE void append(Worker<T>& b, const Published& qkv, const LayerWeights& w, const HeadNorms& norms, int head, int token, int stage) {
  const HeadScale scale(norms.key);
  Rotation rotation;
  rotation.load(b.pass, b.position + token);
  HeadVector key, value;
  warp_wait_until(b.s.flags, place_of(stage, b.layer, kWaitsForWords), [&] {
    key.template load<T>(qkv, key_word(head), token);
    value.template load<T>(qkv, value_word(head), token);
    return key.here() && value.here();
  });
  HeadVector rotated[1] = {key};
  norm_and_rotate<1>(rotated, {&scale}, {&rotation});
  store_position(b, w, head, token, rotated[0], value);
}

/** The queries of a set, rotated, into this warp's scratch; where `appends`, also key and value of the pass's only token. */
template <int T>
DEVICE void read_queries(Worker<T>& b, const Published& qkv, const LayerWeights& w, const HeadNorms& norms, int head, int set, bool appends,
                         int stage) {
  constexpr int kEach = Sets<T>::kEach, kKey = T == 1 ? 1 : 0;
  HeadVector vectors[kEach + kKey]{}, value{};  // the queries, and behind them the key
  const auto number = [&](int i) { return min(set * 8 + i, Sets<T>::kQueries - 1); };
  // What does not depend on the words is loaded before they are waited for.
  const HeadScale query_scale(norms.query), key_scale(norms.key);
  constexpr int kShared = T == 1 ? kEach : 8 % kGroup == 0 ? kGroup : 1;  // neighbouring queries of one token
  Rotation rotations[divide_up(kEach, kShared)];
#pragma unroll
  for (int i = 0; i < kEach; i += kShared) rotations[i / kShared].load(b.pass, b.position + number(i) / kGroup);
  b.delay(stage);
  warp_wait_until(b.s.flags, place_of(stage, b.layer, kWaitsForWords), [&] {
    bool all = true;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      vectors[i].template load<T>(qkv, query_word(head * kGroup + number(i) % kGroup), number(i) / kGroup);
    if (T == 1 && appends) vectors[kEach].template load<T>(qkv, key_word(head), 0), value.template load<T>(qkv, value_word(head), 0);
#pragma unroll
    for (int i = 0; i < kEach + kKey; ++i) all &= vectors[i].here();
    return all && (T > 1 || value.here());
  });
  b.mark(stage, 1);
  const HeadScale* scales[kEach + kKey];
  const Rotation* turns[kEach + kKey];
#pragma unroll
  for (int i = 0; i < kEach + kKey; ++i) scales[i] = i < kEach ? &query_scale : &key_scale, turns[i] = &rotations[i < kEach ? i / kShared : 0];
  norm_and_rotate<kEach + kKey>(vectors, scales, turns);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    unsigned* const to = reinterpret_cast<unsigned*>(b.s.work.attention.queries[warp()][i]);
#pragma unroll
    for (int j = 0; j < divide_up(kHeadPad / 2, 32); ++j)
      if (pair_at(j) < kHeadPad / 2) to[pair_at(j)] = j < kPairSlots && pair_at(j) < kPairs ? vectors[i].w[j < kPairSlots ? j : 0] : 0;
  }
  if constexpr (T == 1) {
    if (appends) {
      HeadVector queries[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) queries[i] = vectors[i];
      keep_own<kEach>(b.s.work.attention, queries, vectors[kEach], value, set * 8);
      store_position(b, w, head, 0, vectors[kEach], value);
    }
  }
  __syncwarp();
}

/** Attention of this block's unit; publishes the head's output, or this part of it. */
template <int T>
DEVICE void attend(Worker<T>& b, const LayerWeights& w, const HeadNorms& norms, const AttentionWords<T>& words, int stage) {
  using S = Sets<T>;
  const int head = opaque(b.index() / kSplits), split = b.index() % kSplits, splits = splits_at(b.position);
  if (b.index() >= kUnits || split >= splits) return;
  auto& scratch = b.s.work.attention;
  const Published qkv = words.qkv.of(b.turn);
  const Range tiles = tiles_of(b.position, split, splits);
  const int count = tiles.end - tiles.begin, slots = divide_up(count, kSlotTiles);
  const int set = warp() % S::kCount, team = warp() / S::kCount;
  const bool working = team < S::kTeam, own = split == splits - 1;
  const bool appends = own && team == S::kTeam - 1 && working;
  const int last_query = min(S::kEach, S::kQueries - set * 8) - 1;

  if constexpr (T > 1) {
    if (own) {
      for (int token = warp(); token < T; token += kWarps) append(b, qkv, w, norms, head, token, stage);
      b.sync();
    }
  }
  Running running;
  KvTile tile{};  // set, or else its registers would stay in use from one layer to the next
  int t = working ? team : count;  // the tile that is next; those of the cache first, then the positions of this pass
  int passed = 0;                  // slots
  const auto fetch = [&] {
    if (t >= count) return;
#pragma unroll 1
    for (; passed < t / kSlotTiles; ++passed) b.skip_slot(stage);
    b.wait_slots(1, stage);
    tile.load(shared_address(b.ring + b.cursor.slot * kSlotBytes) + t % kSlotTiles * (kTilePositions * kRowBytes),
              (tiles.begin + t) * kTilePositions);
    if ((t + S::kTeam) / kSlotTiles > passed || t + S::kTeam >= count) b.free_slots(1, tile.bits()), ++passed;
  };
  fetch();
  if (t < count || appends) read_queries(b, qkv, w, norms, head, set, appends, stage);
  const int token = min(set * 8 + (lane() >> 2), S::kQueries - 1) / kGroup;
#pragma unroll 1
  for (bool last = T > 1 && appends; t < count || last;) {
    int seen = b.position - (tiles.begin + t) * kTilePositions;
    if (T > 1 && t >= count) tile.load(shared_address(b.s.own), b.position), seen = token + 1, last = false;
    running.add(tile, scratch.queries[warp()][0], scratch.kQueryStride, last_query, [&](int column) { return column < seen; });
    t += S::kTeam;
    fetch();
  }
#pragma unroll 1
  for (; passed < slots; ++passed) b.skip_slot(stage);
  b.mark(stage, 2);
  running.store(scratch, last_query);
  b.sync();
  b.mark(stage, 3);

  for (int i = int(threadIdx.x); i < S::kQueries * kPairs; i += kThreads) {
    const int query = i / kPairs, pair = i % kPairs, row = query % 8, of_set = query / 8;
    float most = T == 1 && own ? scratch.own_score[query % kGroup] : kFaint, mass = 0;
    float2 out = {0, 0};
    const float score = most;
#pragma unroll
    for (int k = 0; k < S::kTeam; ++k) most = fmaxf(most, scratch.most[k * S::kCount + of_set][row]);
    if (T == 1 && own) {
      const float2 value = pair_of(scratch.own_value[pair]);
      mass = power(score - most), out = {mass * value.x, mass * value.y};
    }
#pragma unroll
    for (int k = 0; k < S::kTeam; ++k) {
      const int from = k * S::kCount + of_set, element = 2 * pair;
      const float factor = power(scratch.most[from][row] - most);
      mass = fmaf(factor, scratch.mass[from][row], mass);
      out.x = fmaf(factor, scratch.out[from][row][element % 8][element / 8], out.x);
      out.y = fmaf(factor, scratch.out[from][row][element % 8 + 1][element / 8], out.y);
    }
    if (splits == 1) {
      const int token = query / kGroup, row0 = (head * kGroup + query % kGroup) * kPairs;
      words.att.publish(b.turn, word_at<T>(row0 + pair, token), pair_word(__fdividef(out.x, mass), __fdividef(out.y, mass)));
    } else {
      words.parts.publish(b.turn, Parts<T>::sum(head, i, split), __float_as_uint(out.x), __float_as_uint(out.y));
      if (pair == 0)
        words.parts.publish(b.turn, Parts<T>::weight(head, query, split), __float_as_uint(most), __float_as_uint(mass));
    }
  }
  b.mark(stage, 4);
  if (own) wake_publisher(), ++b.appends;
  if (splits == 1) b.sync();
}

/** Adds the parts of a head up: the blocks of the head share its words. Eight items a warp, four lanes an item that share the splits. */
template <int T>
DEVICE void merge(Worker<T>& b, const AttentionWords<T>& words, int stage) {
  const int head = opaque(b.index() / kSplits), part = b.index() % kSplits;
  if (b.index() >= kUnits || splits_at(b.position) == 1) return;
  constexpr int kItems = Parts<T>::kItems, kSide = 8, kShare = divide_up(kSplits, 4);
  const int begin = dealt(kItems, part, kSplits), end = dealt(kItems, part + 1, kSplits);
  const Published from = words.parts.of(b.turn);
  b.begin();
  for (int i0 = begin + warp() * kSide; i0 < end; i0 += kWarps * kSide) {
    const int item = min(i0 + lane() % kSide, end - 1), query = item / kPairs, first = lane() / kSide;
    Words<2> sums[kShare], weights[kShare];
    b.delay(stage);
    warp_wait_until(b.s.flags, place_of(stage, b.layer, kWaitsForWords), [&] {
      bool all = true;
#pragma unroll
      for (int k = 0; k < kShare; ++k) {
        const int split = min(first + 4 * k, kSplits - 1);
        sums[k] = load_words<2>(from, Parts<T>::sum(head, item, split));
        weights[k] = load_words<2>(from, Parts<T>::weight(head, query, split));
      }
#pragma unroll
      for (int k = 0; k < kShare; ++k) all &= arrived(sums[k]) && arrived(weights[k]);
      return all;
    });
    b.mark(stage, 1);
    float most = kFaint;
#pragma unroll
    for (int k = 0; k < kShare; ++k) most = fmaxf(most, __uint_as_float(weights[k].v[0]));
#pragma unroll
    for (int other = kSide; other < 32; other *= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, other));
    float x = 0, y = 0, mass = 0;
#pragma unroll
    for (int k = 0; k < kShare; ++k) {
      const float factor = first + 4 * k < kSplits ? power(__uint_as_float(weights[k].v[0]) - most) : 0.0f;
      x = fmaf(factor, __uint_as_float(sums[k].v[0]), x);
      y = fmaf(factor, __uint_as_float(sums[k].v[1]), y);
      mass = fmaf(factor, __uint_as_float(weights[k].v[1]), mass);
    }
#pragma unroll
    for (int other = kSide; other < 32; other *= 2) {
      x += __shfl_xor_sync(~0u, x, other);
      y += __shfl_xor_sync(~0u, y, other);
      mass += __shfl_xor_sync(~0u, mass, other);
    }
    if (first == 0 && i0 + lane() % kSide < end) {
      const int token = query / kGroup, row = (head * kGroup + query % kGroup) * kPairs + item % kPairs;
      words.att.publish(b.turn, word_at<T>(row, token), pair_word(__fdividef(x, mass), __fdividef(y, mass)));
    }
  }
  b.mark(stage, 2);
  b.sync();  // the scratch of attention becomes the input of the next product
}
