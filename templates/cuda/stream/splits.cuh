// Splits of the positions: which blocks work on a head, what they hand over, and how it is merged.
#pragma once
#include "shares.cuh"

/** The most blocks that work on attention. */
constexpr int kUnits = kKvHeads * kSplits;
static_assert(kUnits <= kBlocks && kKvHeads * kSlices <= kBlocks, "a block works on one unit");

/** Blocks that have all positions of a head, while it is not split: each has a slice of the values of one token, or the whole of those of more. */
template <int T>
constexpr int kWholeShares = T == 1 ? kSlices : 1;

struct Unit {
  int head, split;
};

/** What a block works on where each head has so many splits: those of a head are neighbours, and all are in the first blocks, which have the fewest rows. */
DEVICE Unit unit_of(int block, int splits) { return {int(unsigned(block) / unsigned(splits)), int(unsigned(block) % unsigned(splits))}; }

/** The words of the splits: [head][split][query][pair][2] weighted values, then [head][split][query][2] maximum and sum. */
template <int T>
struct SplitWords {
  static constexpr int kQueries = kGroup * T;
  static constexpr int kItems = kQueries * kPairs;
  static constexpr int kSums = kKvHeads * kSplits * kItems * 2;
  static constexpr int kSize = kSums + kKvHeads * kSplits * kQueries * 2;
  DEVICE static int sum(int head, int item, int split) { return ((head * kSplits + split) * kItems + item) * 2; }
  DEVICE static int weight(int head, int query, int split) { return kSums + ((head * kSplits + split) * kQueries + query) * 2; }
};

/** In the place of the exchange of splits while there are none: its words lie there all the same. */
template <int Size>
struct UnusedExchange : Exchange<Size> {
  static constexpr bool kExists = false;
  DEVICE void publish(int, int, unsigned, unsigned) const {}
};
template <int Size, bool Whole>
using SplitExchange = std::conditional_t<Whole, UnusedExchange<Size>, Exchange<Size>>;

/** The splits of a token: as many blocks of a head from `first` on; of a batch without a row none. */
struct TokenSplits {
  int first, count;
};

template <int T>
DEVICE TokenSplits splits_of(const Cta<T>& cta, int token) {
  if (cta.batched()) return {cta.pass.rows[token].share, cta.pass.rows[token].shares};
  return {0, splits_at(cta.position)};
}

/** Whether a block that has all positions of a token publishes the head's output; else it publishes a split like any other. */
constexpr bool kWholeHeads = splits_at(0) == 1;

/** Whether passes in which one block has all positions of a head have layers of their own, which know of no splits. */
template <int T>
constexpr bool kWholeApart = T == 1 && kWholeHeads && kSplits > 1;

/** Whether every row of a batch is whole: a block publishes a head's output of it, and nothing is merged. */
DEVICE bool rows_are_whole(const LaunchArgs& pass) { return kWholeHeads && pass.shares.most == 1; }

/** Merges the splits of a head: the blocks of the head share its words. Eight items a warp, four lanes an item that share the splits. */
template <int T, class Partial, class Att>
DEVICE void merge_splits(Cta<T>& cta, const Partial& partial, const Att& att, Stage stage) {
  const int shares = cta.batched() ? kSplits : splits_at(cta.position);  // blocks that merge
  if (!Partial::kExists || cta.index() >= kKvHeads * shares || (cta.batched() ? rows_are_whole(cta.pass) : shares == 1)) return;
  const Unit unit = unit_of(cta.index(), shares);
  const int head = opaque(unit.head), share = unit.split;
  constexpr int kItems = SplitWords<T>::kItems, kSide = 8, kShare = divide_up(kSplits, 4);
  const int begin = dealt(kItems, share, shares), end = dealt(kItems, share + 1, shares);
  const Published from = partial.of(cta.epoch);
  cta.begin();
  for (int i0 = begin + warp() * kSide; i0 < end; i0 += kWarps * kSide) {
    const int item = min(i0 + lane() % kSide, end - 1), query = item / kPairs, first = lane() / kSide;
    const TokenSplits of = splits_of(cta, query / kGroup);
    const bool published = cta.batched() && kWholeHeads && of.count == 1, merged = !published && (!cta.batched() || of.count > 0);
    Words<2> sums[kShare], weights[kShare];
    if (shares == kSplits) cta.delay(stage);  // fewer blocks keep nobody waiting
    warp_wait_until(cta.s.flags, place_of(stage, cta.layer, kWaitsForWords), [&] {
      bool all = true;
#pragma unroll
      for (int k = 0; k < kShare; ++k) {
        const int split = of.first + min(first + 4 * k, of.count - 1);
        sums[k] = weights[k] = Words<2>{};
        if (!merged) continue;
        sums[k] = load_words<2>(from, SplitWords<T>::sum(head, item, split));
        weights[k] = load_words<2>(from, SplitWords<T>::weight(head, query, split));
      }
#pragma unroll
      for (int k = 0; k < kShare; ++k) all &= arrived(sums[k]) && arrived(weights[k]);
      return all;
    });
    cta.mark(stage, kPhaseOthers);
    float row_max = kMaskedScore;
#pragma unroll
    for (int k = 0; k < kShare; ++k) row_max = fmaxf(row_max, __uint_as_float(weights[k].v[0]));
#pragma unroll
    for (int other = kSide; other < 32; other *= 2) row_max = fmaxf(row_max, __shfl_xor_sync(~0u, row_max, other));
    float x = 0, y = 0, row_sum = 0;
#pragma unroll
    for (int k = 0; k < kShare; ++k) {
      const float factor = first + 4 * k < of.count ? exp2_approx(__uint_as_float(weights[k].v[0]) - row_max) : 0.0f;
      x = fmaf(factor, __uint_as_float(sums[k].v[0]), x);
      y = fmaf(factor, __uint_as_float(sums[k].v[1]), y);
      row_sum = fmaf(factor, __uint_as_float(weights[k].v[1]), row_sum);
    }
#pragma unroll
    for (int other = kSide; other < 32; other *= 2) {
      x += __shfl_xor_sync(~0u, x, other);
      y += __shfl_xor_sync(~0u, y, other);
      row_sum += __shfl_xor_sync(~0u, row_sum, other);
    }
    if (first == 0 && i0 + lane() % kSide < end && !published) {
      const int token = query / kGroup, row = (head * kGroup + query % kGroup) * kPairs + item % kPairs;
      if (!merged) row_sum = 1;  // no row, which others wait for all the same
      att.publish(cta.epoch, spread_at<T>(row, token), pair_word(__fdividef(x, row_sum), __fdividef(y, row_sum)));
    }
  }
  cta.mark(stage, kPhasePublish);
}

/** The attention output as a product's input, merged by whoever reads it; while one block has all positions of a head, as it publishes it. */
template <class Partial, class Att>
struct SplitGather {
  static constexpr bool kNormed = false;
  Partial partial;
  Att att;
};

template <class P, int T, class Partial, class Att>
struct InputReader<P, T, SplitGather<Partial, Att>> {
  using S = SplitWords<T>;
  static constexpr int kSlice = P::kWarpCells * 16;                            // words of a warp and token, at most
  static constexpr int V = kPairs % 4 == 0 ? 4 : kPairs % 2 == 0 ? 2 : 1;      // neighbouring words of one head
  static constexpr int kLoads = divide_up(T * kSlice / V, 32);                 // of a lane
  static constexpr int kBatch = 4;                                             // splits that are waited for together
  static constexpr int kUnits = V == 1 ? 2 : 4, kUnitLoads = 2 * V / kUnits;   // floats of a load, loads of V words

  const SplitGather<Partial, Att>& input;
  SquareSums<T, kSlice> squares;

  DEVICE explicit InputReader(const SplitGather<Partial, Att>& input) : input(input) {}

  DEVICE void take(Cta<T>& cta) {
    if (Att::kExists && !cta.batched() && (!Partial::kExists || splits_at(cta.position) == 1)) {
      const Gather whole{input.att.of(cta.epoch)};
      InputReader<P, T, Gather>(whole).take(cta);
      return;
    }
    const Published from = input.partial.of(cta.epoch);
    cta.delay(P::kStage);
#pragma unroll 1
    for (int n = 0; n < kLoads; ++n) take_words(cta, from, n * (32 / T * V) + lane() / T * V, lane() % T);
    __syncwarp();
  }

  /** Words [word, word + V) of this warp and a token. */
  DEVICE void take_words(Cta<T>& cta, const Published& from, int word, int token) {
    const TokenSplits of = splits_of(cta, token);
    const int splits = cta.batched() ? cta.pass.shares.most : of.count;
    const int mine = P::Columns::first(warp()) * 16, at = min(mine + word, P::kInputWords - V);
    const int query_head = at / kPairs, head = query_head / kGroup, query = token * kGroup + query_head % kGroup;
    const int item = query * kPairs + at % kPairs;
    const bool merged = !cta.batched() || of.count > (Att::kExists ? 1 : 0), whole = !merged && of.count > 0;
    float row_max = kMaskedScore, row_sum = 0, out[2 * V] = {};
    Words<V> single{};
#pragma unroll 1
    for (int first = 0; first < splits; first += kBatch) {
      Words<kUnits> sums[kBatch][kUnitLoads];
      Words<2> weights[kBatch];
      warp_wait_until(cta.s.flags, place_of(P::kStage, cta.layer, kWaitsForWords), [&] {
        bool all = true;
#pragma unroll
        for (int k = 0; k < kBatch; ++k) {
          const int split = of.first + min(first + k, of.count - 1);
          weights[k] = Words<2>{};
#pragma unroll
          for (int u = 0; u < kUnitLoads; ++u) sums[k][u] = Words<kUnits>{};
          if (!merged) continue;
          weights[k] = load_words<2>(from, S::weight(head, query, split));
#pragma unroll
          for (int u = 0; u < kUnitLoads; ++u) sums[k][u] = load_words<kUnits>(from, S::sum(head, item, split) + u * kUnits);
        }
#pragma unroll
        for (int k = 0; k < kBatch; ++k) {
          all &= arrived(weights[k]);
#pragma unroll
          for (int u = 0; u < kUnitLoads; ++u) all &= arrived(sums[k][u]);
        }
        if constexpr (Att::kExists)
          if (whole) single = load_words<V>(input.att.of(cta.epoch), spread_at<T>(at, token)), all &= arrived(single);
        return all;
      });
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
        if (!merged || first + k >= of.count) break;
        const float top = fmaxf(row_max, __uint_as_float(weights[k].v[0]));
        const float old = exp2_approx(row_max - top), fresh = exp2_approx(__uint_as_float(weights[k].v[0]) - top);
        row_max = top;
        row_sum = fmaf(fresh, __uint_as_float(weights[k].v[1]), row_sum * old);
#pragma unroll
        for (int i = 0; i < 2 * V; ++i) out[i] = fmaf(fresh, __uint_as_float(sums[k][i / kUnits].v[i % kUnits]), out[i] * old);
      }
    }
    if (word >= kSlice) return;
    unsigned* const to = reinterpret_cast<unsigned*>(cta.s.work.slices[warp()] + token * slice_stride(P::kWarpCells)) + turned(word, token);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const bool wanted = word + i < min(P::Columns::cells(warp()) * 16, P::kInputWords - mine);
      const unsigned of_splits = pair_word(__fdividef(out[2 * i], merged ? row_sum : 1), __fdividef(out[2 * i + 1], merged ? row_sum : 1));
      to[i] = !wanted ? 0 : whole ? single.v[i] : of_splits;
    }
  }
};
