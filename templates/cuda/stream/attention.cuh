// Attention of one kv head over some of the cached positions, which arrive in the weight stream, and over the positions of this pass.
#pragma once
#include "own.cuh"

/** In a check the last tile of the cache is one with the positions of the pass, which have been left in the block's tile: before them come
 *  the cached ones, of which the ring has `count`. By one warp. */
template <int T>
DEVICE uint32_t join_tile(Cta<T>& cta, uint32_t cached, int count) {
  const uint32_t own = shared_address(cta.s.own);
  for (int i = lane(); i < count * (kRowBytes / 16); i += 32) store_shared(own + i * 16, load_shared(cached + i * 16));
  __syncwarp();
  return own;
}

/** What the first `Team` warps of every set have of Q tokens from `first` on: publishes a head's output where it is `whole`, or a slice of it, else a
 *  split. Where `own`, the positions of the tokens themselves are added to the tiles. `place` is AttentionScratch::place_of this thread. */
template <int Team, int Slices, int T, int Q, bool Row, class Partial, class Att>
DEVICE void publish_attended(Cta<T>& cta, const AttentionScratch<Q, Row>& scratch, unsigned place, const Partial& partial, const Att& att, int head, int slice,
                             int first, int split, bool own, bool whole) {
  using Scratch = AttentionScratch<Q, Row>;
  using S = typename Scratch::S;
  constexpr unsigned kSlice = kPairs / Slices, kItems = S::kQueries * kSlice;
  for (unsigned i = threadIdx.x; i < kItems; i += kThreads, place = Scratch::template place_of<Slices>(i)) {
    const unsigned query = i / kSlice, pair = slice * kSlice + i % kSlice;
    const float *const maxima = scratch.row_max[0] + query, *const sums = scratch.row_sum[0] + query, *const elements = scratch.out[0][0][0] + place;
    float max_of[Team], sum_of[Team];
    float2 out_of[Team];
#pragma unroll
    for (int k = 0; k < Team; ++k) {
      max_of[k] = maxima[k * S::kCount * 8];
      sum_of[k] = sums[k * S::kCount * 8];
      const float* const element = elements + k * S::kCount * Scratch::kPartSize;
      out_of[k] = make_float2(element[0], element[Scratch::kOutStride]);
    }
    const bool apart = (Q == 1 || checks(cta)) && own;
    const float score = apart ? scratch.own_score[Q == 1 ? query % kGroup : query] : kMaskedScore;
    const float2 value = apart ? pair_of(scratch.own_value[Q == 1 ? 0 : query / kGroup][pair]) : make_float2(0, 0);
    float row_max = score;
#pragma unroll
    for (int k = 0; k < Team; ++k) row_max = fmaxf(row_max, max_of[k]);
    float row_sum = apart ? exp2_approx(score - row_max) : 0;
    float2 out = {row_sum * value.x, row_sum * value.y};
#pragma unroll
    for (int k = 0; k < Team; ++k) {
      const float factor = exp2_approx(max_of[k] - row_max);
      row_sum = fmaf(factor, sum_of[k], row_sum);
      out.x = fmaf(factor, out_of[k].x, out.x);
      out.y = fmaf(factor, out_of[k].y, out.y);
    }
    if (Att::kExists && whole) {
      const int token = first + query / kGroup, row0 = (head * kGroup + query % kGroup) * kPairs;
      att.publish(cta.epoch, spread_at<T>(row0 + pair, token), pair_word(__fdividef(out.x, row_sum), __fdividef(out.y, row_sum)));
    } else {
      partial.publish(cta.epoch, SplitWords<T>::sum(head, first * (kGroup * kPairs) + i, split), __float_as_uint(out.x), __float_as_uint(out.y));
      if (pair == 0)
        partial.publish(cta.epoch, SplitWords<T>::weight(head, first * kGroup + query, split), __float_as_uint(row_max), __float_as_uint(row_sum));
    }
  }
}

/** Warps whose parts are added up in the place of a set's, where they have all tiles of a token. */
constexpr int kSmallTeam = Sets<1>::kTeam < 4 ? Sets<1>::kTeam : 4;

/** Whether the ring has room for so many tiles of a block at once, and for a slot that is being filled. */
template <int T>
BOTH constexpr bool holds(int tiles) {
  return SharedMemory<T>::kSlots > divide_up(tiles, kSlotTiles);
}

/** The tiles of a block's unit, as they arrive in slots of the ring. A warp reads every kTeam-th of them, and passes by all others. */
template <int T>
struct UnitTiles {
  Cta<T>& cta;
  const Stage stage;
  const Range tiles;
  const bool own;  // behind them come the positions of the pass
  const int count = tiles.end - tiles.begin, slots = divide_up(count, kSlotTiles);
  int passed = 0;  // slots

  /** The position of a tile's first row. */
  DEVICE int begin(int t) const { return (tiles.begin + t) * kKvTile; }

  DEVICE void skip_to(int slot) {
    cta.skip_slots(slot - passed, stage);
    passed = max(passed, slot);
  }

  /** Gives back, of the slots before the one of tile t, those that are there already. */
  DEVICE void skip_landed(int t) { passed += cta.skip_landed((t < count ? t / kSlotTiles : slots) - passed); }

  /** Waits for tile t, where there is one, and loads it: of its values one slice. */
  template <class Tile>
  DEVICE void load(Tile& tile, int t, int slice = 0) {
    if (t >= count) return;
    skip_to(t / kSlotTiles);
    cta.wait_slot(stage);
    uint32_t rows = shared_address(cta.ring + cta.cursor.slot * kSlotBytes) + t % kSlotTiles * (kKvTile * kRowBytes);
    const bool joined = checks(cta) && own && t == count - 1;
    if constexpr (kChecks<T>)
      if (joined) rows = join_tile(cta, rows, cta.position % kKvTile);
    tile.load(rows, begin(t), slice);
    const unsigned read = tile.bits();
    if (kCodes && !joined) tile.clear_from(cta.position - begin(t));
    constexpr int kTeam = Sets<T>::kTeam;
    if ((t + kTeam) / kSlotTiles > passed || t + kTeam >= count) cta.free_slot(read), ++passed;
  }
};

/** Which positions of a tile count for a query: column(i) of them. */
struct Seen {
  int from, to;
  bool windowed;

  /** Of a tile whose first position is `begin`, those before `end` that the token at `position` sees. */
  DEVICE Seen(int layer, int position, int begin, int end) : from(first_seen(layer, position) - begin), to(end - begin), windowed(window_of(layer) != 0) {}
  DEVICE bool operator()(int column) const { return column < to && (!windowed || column >= from); }
};

/**
 * Attention of one token by this block. Where it has a split of the positions it publishes that; while heads are not split, kSlices blocks have all
 * positions of a head and publish its output, each a slice of it: they share the values, of which each reads its elements.
 */
template <class Heads, class Qkv, class Squares, class Partial, class Att>
DEVICE void attend_token(Cta<1>& cta, const LayerWeights& w, const HeadNorms& norms, const Qkv& qkv, const Squares& squares, const Partial& partial,
                         const Att& att, Stage stage) {
  using S = Sets<1>;
  constexpr bool kWhole = !Partial::kExists;
  constexpr int kParts = kWhole ? kSlices : 1;  // of the values
  // A warp begins with two tiles at once, where slices leave registers for them that codes of wide inputs do not take, and while queries are waited for.
  // All meet before it goes on, so the ring has to hold until then what any of them begins with.
  constexpr bool kRoomForTwo = kParts > 1 && (!kCodes || kHidden < 256 * kWarps);
  constexpr int kTogether = kRoomForTwo && holds<1>(2 * S::kTeam) ? 2 : 1;
  constexpr bool kEarly = holds<1>(kTogether * S::kTeam);
  const int splits = kWhole ? 1 : splits_at(cta.position), shares = kWhole ? kSlices : splits;
  if (cta.index() >= kKvHeads * shares) return;
  const Unit unit = unit_of(cta.index(), shares);
  const int head = opaque(unit.head), split = kWhole ? 0 : unit.split, slice = kWhole ? unit.split : 0;
  auto& scratch = cta.s.work.attention;
  const int team = S::team();
  const bool own = split == splits - 1, working = team < S::kTeam, stores = slice == 0;
  const bool appends = own && working && team == S::kTeam - 1 && S::first_set() == 0;
  const unsigned place = opaque(int(AttentionScratch<1>::template place_of<kParts>(threadIdx.x)));  // known before there are words

  UnitTiles<1> tiles{cta, stage, tiles_of(cta.layer, cta.position, split, splits), own};
  Running<kParts> running;
  KvTile<kParts> held[kTogether]{};      // set, or else their registers would stay in use from one layer to the next
  int t = working ? team : tiles.count;  // the tile that is next
  const auto begin = [&] {
#pragma unroll
    for (int k = 0; k < kTogether; ++k) tiles.load(held[k], t + k * S::kTeam, slice);
  };
  if constexpr (kEarly) begin(), tiles.skip_landed(t + kTogether * S::kTeam);
  read_token<Heads>(cta, {qkv.of(cta.epoch), squares.of(cta.epoch)}, w, norms, head, appends, stores, stage);
  if constexpr (!kEarly) begin();
  const auto add = [&](auto number) {
    constexpr int N = decltype(number)::value;
    const Seen seen(cta.layer, cta.position, tiles.begin(t), cta.position);
    running.template add<N>(held, scratch.query(S::first_set() * 8), scratch.kQueryStride, S::last_of(S::first_set()),
                            [&](int n, int column) { return seen(n * (S::kTeam * kKvTile) + column); });
    t += N * S::kTeam;
  };
  const std::integral_constant<int, 1> one;
  if constexpr (kTogether > 1) {
    if (t + S::kTeam < tiles.count)
      add(std::integral_constant<int, kTogether>{});
    else if (t < tiles.count)
      add(one);
#pragma unroll 1
    while (t < tiles.count) tiles.load(held[0], t, slice), add(one);
  } else {
#pragma unroll 1
    while (t < tiles.count) add(one), tiles.load(held[0], t, slice);
  }
  tiles.skip_to(tiles.slots);
  cta.mark(stage, kPhaseCompute);
  running.store(scratch, warp(), S::last_of(S::first_set()));
  cta.sync();
  cta.mark(stage, kPhaseMeet);

  const auto publish = [&](auto warps) {
    publish_attended<decltype(warps)::value, kParts>(cta, scratch, place, partial, att, head, slice, 0, split, own, kWhole);
  };
  if (tiles.count <= kSmallTeam)
    publish(std::integral_constant<int, kSmallTeam>{});  // the others have no tile
  else
    publish(std::integral_constant<int, S::kTeam>{});
  cta.mark(stage, kPhasePublish);
  if (own && stores) ++cta.appends;
}

/** Attention of several tokens of a sequence by this block; publishes the head's output where the block has all its positions, else its split. */
template <int T, class Heads, class Qkv, class Squares, class Partial, class Att>
DEVICE void attend_tokens(Cta<T>& cta, const LayerWeights& w, const HeadNorms& norms, const Qkv& qkv, const Squares& squares, const Partial& partial,
                          const Att& att, Stage stage) {
  using S = Sets<T>;
  const int splits = Partial::kExists ? splits_at(cta.position) : 1;
  if (cta.index() >= kKvHeads * splits) return;
  const Unit unit = unit_of(cta.index(), splits);
  const int head = opaque(unit.head), split = unit.split;
  auto& scratch = cta.s.work.attention;
  const HeadWords from{qkv.of(cta.epoch), squares.of(cta.epoch)};
  const int team = S::team();
  const bool working = team < S::kTeam, own = split == splits - 1;
  const bool appends = own && team == S::kTeam - 1 && working;
  const unsigned place = opaque(int(AttentionScratch<T>::template place_of<1>(threadIdx.x)));  // known before there are words

  if (own) {
    for (int token = warp(); token < T; token += kWarps) {
      OwnPosition<Heads> of;
      of.read(cta, from, norms, head, token, stage);
      of.append(cta, w, head, token, true);
    }
    cta.sync();
  }
  UnitTiles<T> tiles{cta, stage, tiles_of(cta.layer, cta.position, split, splits), own};
  Running<1> running[S::kHeld];
  KvTile<1> tile{};                      // set, or else its registers would stay in use from one layer to the next
  int t = working ? team : tiles.count;  // the tile that is next; those of the cache first, then the positions of this pass
  // The first tile is loaded while queries are waited for, where there are registers for both.
  // Where all meet in between, the ring has to hold what they wait for until then.
  constexpr bool kEarly = !kFewRegisters<T> && T <= 8 && (!S::kForAll || holds<T>(S::kTeam));
  if constexpr (kEarly) tiles.load(tile, t), tiles.skip_landed(t + S::kTeam);
  if constexpr (S::kForAll) {
    read_queries<T, Heads>(cta, scratch, from, w, norms, head, 0, own, stage);
    cta.sync();
  } else {
    if (t < tiles.count || appends) read_queries<T, Heads>(cta, scratch, from, w, norms, head, 0, appends, stage);
  }
  if constexpr (!kEarly) tiles.load(tile, t);
#pragma unroll 1
  for (bool last = appends && !checks(cta); t < tiles.count || last;) {
    const bool of_pass = t >= tiles.count;
    if (of_pass) tile.load(shared_address(cta.s.own), cta.position, 0), last = false;
#pragma unroll
    for (int i = 0; i < S::kHeld; ++i) {
      const int set = S::first_set() + i, token = min(set * 8 + (lane() >> 2), S::kQueries - 1) / kGroup;
      const int own_end = of_pass ? token + 1 : checks(cta) ? token : 0;  // of the positions of the pass
      const Seen seen(cta.layer, cta.position + token, of_pass ? cta.position : tiles.begin(t), cta.position + own_end);
      running[i].template add<1>(&tile, scratch.query(set * 8), scratch.kQueryStride, S::last_of(set), [&](int, int column) { return seen(column); });
    }
    t += S::kTeam;
    tiles.load(tile, t);
  }
  tiles.skip_to(tiles.slots);
  cta.mark(stage, kPhaseCompute);
#pragma unroll
  for (int i = 0; i < S::kHeld; ++i) running[i].store(scratch, warp() * S::kHeld + i, S::last_of(S::first_set() + i));
  cta.sync();
  cta.mark(stage, kPhaseMeet);
  publish_attended<S::kTeam, 1>(cta, scratch, place, partial, att, head, 0, 0, split, own, splits == 1);
  cta.mark(stage, kPhasePublish);
  if (own) cta.hand_to_publisher(stage), ++cta.appends;
}
