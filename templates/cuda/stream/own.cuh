// What attention reads of its pass: queries, and keys and values of its tokens, which are made ready and appended to the cache.
#pragma once
#include "splits.cuh"

/** True in a pass whose tokens have the bits of passes of their own. */
template <int T>
DEVICE bool checks(const Cta<T>& cta) {
  return kChecks<T> && cta.pass.check;
}

/** Appends key and value of token `token` of the pass, rotated, to the cache, as `row`; with more tokens also to the block's tile: behind each
 *  other, or in a check where the tile of the cache has them. By one warp. */
template <int T, bool Squares>
DEVICE void store_position(Cta<T>& cta, const LayerWeights& w, int head, int token, const CachedRow& row, const HeadVector<Squares>& key,
                           const HeadVector<false>& value) {
  const int position = cta.position_of(token);
  if (T > 1 && !cta.batched() && !(checks(cta) && position / kKvTile != cta.position / kKvTile))
    row.store(cta.s.own + (checks(cta) ? position % kKvTile : token) * kRowBytes, position);
  if (kChecks<T> && !cta.batched()) {
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      if (pair_at(i) >= kHeadPad / 2) break;
      cta.s.work.attention.own_value[token][pair_at(i)] = value.w[i];
      cta.s.work.attention.own_value[kChecks<T> ? T + token : 0][pair_at(i)] = key.w[i];
    }
  }
  if (token < cta.pass.tokens)
    row.store(reinterpret_cast<char*>(cta.cache_of(w, token)) + (size_t(head) * cta.pass.context + position) * kRowBytes, position);
  __syncwarp();
}

/** The scores of queries [first, first + N) with the position of their own token, which needs no tile: query_of(n, i) and key_of(n, i) are words. By
 *  one warp. */
template <int N, class Scratch, class QueryOf, class KeyOf>
DEVICE void keep_scores(Scratch& to, int first, QueryOf&& query_of, KeyOf&& key_of) {
  float score[N] = {};
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      const float2 q = pair_of(query_of(n, i)), k = pair_of(key_of(n, i));
      score[n] = fmaf(q.x, k.x, fmaf(q.y, k.y, score[n]));
    }
#pragma unroll
  for (int other = 16; other > 0; other /= 2)
#pragma unroll
    for (int n = 0; n < N; ++n) score[n] += __shfl_xor_sync(~0u, score[n], other);
#pragma unroll
  for (int n = 0; n < N; ++n)
    if (lane() == 0 && first + n < kGroup * Scratch::kApart) to.own_score[first + n] = score[n] * (kAttnScale * kLog2e);
}

/** The value of the token whose position is apart, where that is one token's. By one warp. */
template <class Scratch>
DEVICE void keep_value(Scratch& to, const HeadVector<false>& value) {
#pragma unroll
  for (int i = 0; i < kPairSlots; ++i)
    if (pair_at(i) < kPairs) to.own_value[0][pair_at(i)] = value.w[i];
}

/** One epoch of what attention reads: queries, keys, values, and where their norm is made of them the squares. */
struct HeadWords {
  Published qkv, squares;
};

/** Key and value of a token of the pass, in the hands of the warp that appends them. */
template <class Heads>
struct OwnPosition {
  HeadVector<Heads::kFactor> key[1];
  HeadVector<false> value;

  /** Waits for both, and makes them ready. */
  template <int T>
  DEVICE void read(Cta<T>& cta, const HeadWords& from, const HeadNorms& norms, int head, int token, Stage stage) {
    const HeadScale<Heads> scale(norms.key);
    Rotation<Heads> rotation;
    rotation.load(cta.pass, turned_by(cta.layer, cta.position + token));
    cta.delay(stage);
    warp_wait_until(cta.s.flags, place_of(stage, cta.layer, kWaitsForWords), [&] {
      key[0].template load<T>(from.qkv, from.squares, key_word(head), token);
      value.template load<T>(from.qkv, {}, value_word(head), token);
      return key[0].here() && value.here();
    });
    norm_and_rotate<Heads, 1>(key, {&scale}, {&rotation});
  }

  /** Stores both; what the cache has of them, they are then. */
  template <int T>
  DEVICE void append(Cta<T>& cta, const LayerWeights& w, int head, int token, bool stores) {
    const CachedRow row(key[0], value);
    if (stores) store_position(cta, w, head, token, row, key[0], value);
  }
};

/** The queries that this warp makes ready, rotated, into the scratch: of Q tokens from `first` on, all of the pass or one. Where `appends`, also key
 *  and value of a row, or the scores of queries with their own tokens in a check. */
template <int T, class Heads, int Q, bool Row>
DEVICE void read_queries(Cta<T>& cta, AttentionScratch<Q, Row>& scratch, const HeadWords& from, const LayerWeights& w, const HeadNorms& norms, int head,
                         int first, bool appends, Stage stage) {
  using S = Sets<Q, Row>;
  constexpr int kEach = S::kRead, kKey = Row ? 1 : 0;
  if (S::first_read() >= S::kQueries) return;
  HeadVector<Heads::kFactor> vectors[kEach + kKey]{};  // the queries, and after them the key
  HeadVector<false> value{};
  const int first_read = opaque(S::first_read());  // what it leads to is not worth registers in all layers
  const auto number = [&](int i) { return min(first_read + i, S::kQueries - 1); };
  // What does not depend on the words is loaded before they are waited for.
  const HeadScale<Heads> query_scale(norms.query), key_scale(norms.key);
  constexpr int kShared = Q == 1 ? kEach : kEach % kGroup == 0 ? kGroup : kGroup % kEach == 0 ? kEach : 1;  // neighbouring queries of one token
  Rotation<Heads> rotations[divide_up(kEach, kShared)];
#pragma unroll
  for (int i = 0; i < kEach; i += kShared) rotations[i / kShared].load(cta.pass, turned_by(cta.layer, cta.position_of(first + number(i) / kGroup)));
  cta.delay(stage);
  warp_wait_until(cta.s.flags, place_of(stage, cta.layer, kWaitsForWords), [&] {
    bool all = true;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      vectors[i].template load<T>(from.qkv, from.squares, query_word(head * kGroup + number(i) % kGroup), first + number(i) / kGroup);
    if (Row && appends) {
      vectors[kEach + kKey - 1].template load<T>(from.qkv, from.squares, key_word(head), first);
      value.template load<T>(from.qkv, {}, value_word(head), first);
    }
#pragma unroll
    for (int i = 0; i < kEach + kKey; ++i) all &= vectors[i].here();
    return all && (!Row || value.here());
  });
  cta.mark(stage, kPhaseOthers);
  const HeadScale<Heads>* scales[kEach + kKey];
  const Rotation<Heads>* rotation_of[kEach + kKey];
#pragma unroll
  for (int i = 0; i < kEach + kKey; ++i) scales[i] = i < kEach ? &query_scale : &key_scale, rotation_of[i] = &rotations[i < kEach ? i / kShared : 0];
  norm_and_rotate<Heads, kEach + kKey>(vectors, scales, rotation_of);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    unsigned* const to = reinterpret_cast<unsigned*>(scratch.query(number(i)));
#pragma unroll
    for (int j = 0; j < divide_up(kHeadPad / 2, 32); ++j)
      if (pair_at(j) < kHeadPad / 2) to[scratch.query_place(pair_at(j))] = j < kPairSlots && pair_at(j) < kPairs ? vectors[i].w[j < kPairSlots ? j : 0] : 0;
  }
  if constexpr (Row) {
    if (appends) {
      auto& key = vectors[kEach];
      const CachedRow row(key, value);
      keep_scores<kEach>(
          scratch, first_read, [&](int n, int i) { return vectors[n].w[i]; }, [&](int, int i) { return key.w[i]; });
      keep_value(scratch, value);
      if (S::first_set() == 0) store_position(cta, w, head, first, row, key, value);  // the others would store the same
    }
  } else if constexpr (kChecks<T>) {
    if (appends && checks(cta)) {
      keep_scores<kEach>(
          scratch, first_read, [&](int n, int i) { return vectors[n].w[i]; },
          [&](int n, int i) { return pair_at(i) < kPairs ? scratch.own_value[T + number(n) / kGroup][pair_at(i)] : 0; });
    }
  }
  __syncwarp();
}

/** Queries of a pass of one token, for all warps; and by the warp that `appends` key and value, with the scores of the queries with them. */
template <class Heads>
DEVICE void read_token(Cta<1>& cta, const HeadWords& from, const LayerWeights& w, const HeadNorms& norms, int head, bool appends, bool stores, Stage stage) {
  auto& scratch = cta.s.work.attention;
  using S = Sets<1>;
  OwnPosition<Heads> own;
  if (appends) own.read(cta, from, norms, head, 0, stage);
  read_queries<1, Heads>(cta, scratch, from, w, norms, head, 0, false, stage);
  cta.sync();
  cta.mark(stage, kPhaseOthers);
  if (!appends) return;
  own.append(cta, w, head, 0, stores);
  if (stores) cta.hand_to_publisher(stage);
  keep_value(scratch, own.value);
#pragma unroll 1
  for (int first = 0; first < S::kQueries; first += S::kEach) {
    const auto word = [&](int n, int i) {
      const auto* const query = reinterpret_cast<const unsigned*>(scratch.query(min(first + n, S::kQueries - 1)));
      return pair_at(i) < kPairs ? query[scratch.query_place(pair_at(i))] : 0;
    };
    keep_scores<S::kEach>(scratch, first, word, [&](int, int i) { return own.key[0].w[i]; });
  }
}
