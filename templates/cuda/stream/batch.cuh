// Attention of a batch: rows of sequences of their own, one after the other, each with the positions that the block has of it.
#pragma once
#include "attention.cuh"

/** Attention of this block's share of every row; publishes a head's output where the block has all positions of a row, else its part. */
template <int T, class Heads, class Qkv, class Squares, class Partial, class Att>
DEVICE void attend_rows(Cta<T>& cta, const LayerWeights& w, const HeadNorms& norms, const Qkv& qkv, const Squares& squares, const Partial& partial,
                        const Att& att, Stage stage) {
  using Scratch = AttentionScratch<1, T != 1>;
  using S = typename Scratch::S;
  const Unit unit = unit_of(cta.index(), kSplits);
  const int head = opaque(unit.head), share = unit.split;
  if (cta.index() >= kUnits) return;
  auto& scratch = cta.s.work.row;
  const HeadWords from{qkv.of(cta.epoch), squares.of(cta.epoch)};
  const int team = S::team(), last_query = S::last_of(S::first_set());
  const bool working = team < S::kTeam;
  const unsigned place = Scratch::template place_of<1>(threadIdx.x);
  int before = 0;        // tiles of this block that are of rows before
  int passed = 0;        // slots
  bool waited = false;   // for the slot that is next
  unsigned read = 0;     // bits of what was loaded from it
  const auto pass_slots = [&](int to) {
    if (passed >= to) return;
    if (waited) cta.free_slot(read), ++passed, waited = false, read = 0;
    cta.skip_slots(to - passed, stage);
    passed = to;
  };
  each_row(cta.pass, cta.layer, share, [&](int row, const RowShare& mine) {
    const int count = mine.tiles.end - mine.tiles.begin, position = cta.pass.rows[row].position;
    const bool appends = mine.own && team == S::kTeam - 1 && working;
    Running<1> running;
    KvTile<1> tile{};
    int t = working ? team : count;
    const auto fetch = [&] {
      if (t >= count) return;
      const int at = before + t;
      pass_slots(at / kSlotTiles);
      if (!waited) cta.wait_slot(stage);
      waited = true;
      tile.load(shared_address(cta.ring + cta.cursor.slot * kSlotBytes) + at % kSlotTiles * (kKvTile * kRowBytes), (mine.tiles.begin + t) * kKvTile, 0);
      read |= tile.bits();
      if (kCodes) tile.clear_from(position - (mine.tiles.begin + t) * kKvTile);
      pass_slots(min(at + S::kTeam, before + count) / kSlotTiles);
    };
    if constexpr (!kFewRegisters<T>) fetch();
    if (t < count || appends) read_queries<T, Heads>(cta, scratch, from, w, norms, head, row, appends, stage);
    if constexpr (kFewRegisters<T>) fetch();
    const bool windowed = window_of(cta.layer) != 0;
    const int first = first_seen(cta.layer, position);
#pragma unroll 1
    while (t < count) {
      const int at = (mine.tiles.begin + t) * kKvTile, seen = position - at, unseen = first - at;
      running.template add<1>(&tile, scratch.query(S::first_set() * 8), scratch.kQueryStride, last_query,
                  [&](int, int column) { return column < seen && (!windowed || column >= unseen); });
      t += S::kTeam;
      fetch();
    }
    before += count;
    pass_slots(before / kSlotTiles);  // those that have nothing of this row, too: the rows behind need the places
    cta.mark(stage, kPhaseCompute);
    running.store(scratch, warp(), last_query);
    cta.sync();
    cta.mark(stage, kPhaseMeet);
    publish_attended<S::kTeam, 1>(cta, scratch, place, partial, att, head, 0, row, share, mine.own, cta.pass.rows[row].shares == 1);
    cta.mark(stage, kPhasePublish);
    cta.sync();  // the next row takes its place
  });
  pass_slots(divide_up(before, kSlotTiles));
  if (share == 0 && rows_are_whole(cta.pass)) {
    // Nothing is merged, so nobody else publishes what products read of tokens without a row.
    constexpr int kWords = kGroup * kPairs;
    for (int i = cta.pass.tokens * kWords + int(threadIdx.x); i < T * kWords; i += kThreads)
      att.publish(cta.epoch, spread_at<T>(head * kWords + i % kWords, i / kWords), pair_word(0, 0));
  }
}

/** Attention of a pass. */
template <int T, class Heads, class... Words>
DEVICE void attend(Cta<T>& cta, const LayerWeights& w, const HeadNorms& norms, const Words&... words) {
  if constexpr (T == 1) {
    attend_token<Heads>(cta, w, norms, words...);
  } else if (cta.batched()) {
    attend_rows<T, Heads>(cta, w, norms, words...);
  } else {
    attend_tokens<T, Heads>(cta, w, norms, words...);
  }
}
