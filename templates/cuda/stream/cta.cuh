// What a block of the stream kernel has: shared memory, its place in the pass, and the reading side of the ring.
#pragma once
#include "ring.cuh"

/** Words of an input of K elements, from token to token. */
BOTH constexpr int word_stride(int k) { return divide_up(k, 8) * 4; }

/** Bytes of shared memory from token to token of a warp's part of an input: an odd number of 64, so that tokens lie in other banks. */
BOTH constexpr int slice_stride(int warp_cells) { return (warp_cells | 1) * 64; }

/** Byte b of a token's 32 columns lies at b ^ turned_bytes(token), so that lanes which store the same columns of eight tokens store to banks of their own. */
DEVICE int turned_bytes(int token) { return ((token & 2) | (token >> 2 & 1)) * 16; }

/** Where a word of a token lies in its row. */
DEVICE int turned(int word, int token) { return word ^ turned_bytes(token) / 4; }

/** Sums of one output over the warps lie this many floats apart. */
constexpr int kSumStride = kWarps + 4;
static_assert(kWarps == 8, "a lane adds eight sums");

/** Whether the kernel of so many tokens computes each with the bits of a pass of its own, where LaunchArgs.check asks for it. */
template <int T>
constexpr bool kChecks = T > 1 && T == kCheckTokens;

/**
 * Tokens of attention's queries: 8 queries a set, the warps of a set share the positions. A warp works on one set, or on all where tokens are checked.
 * Queries are made ready for all warps, which meet then, where the warps have all sets, and in a pass of one token: each look at words delays those
 * of others. Of a row of a batch a warp makes its own ready: rows come one after the other, and a meeting would be in the way.
 */
template <int T, bool Row = false>
struct Sets {
  static constexpr int kQueries = kGroup * T;
  static constexpr int kCount = divide_up(kQueries, 8);
  static constexpr int kEach = kQueries < 8 ? kQueries : 8;
  static constexpr int kHeld = kChecks<T> ? kCount : 1;  // sets of a warp
  static constexpr int kTeam = kWarps * kHeld / kCount > 0 ? kWarps * kHeld / kCount : 1;  // warps of a set
  static constexpr bool kForAll = kHeld > 1 || (T == 1 && !Row);
  static constexpr int kRead = kForAll ? divide_up(kQueries, kWarps) : kEach;  // queries that a warp makes ready
  static_assert(kCount <= kWarps, "a warp works on one set of queries");

  /** Of a warp: its place among those of its sets, the first of these, the first query that it makes ready. */
  DEVICE static int team() { return warp() * kHeld / kCount; }
  DEVICE static int first_set() { return kHeld > 1 ? 0 : warp() % kCount; }
  DEVICE static int first_read() { return kForAll ? warp() * kRead : first_set() * 8; }
  /** The last query of a set. */
  DEVICE static int last_of(int set) { return min(kEach, kQueries - set * 8) - 1; }
};
static_assert(Sets<(kCheckTokens > 1 ? kCheckTokens : 1)>::kTeam == Sets<1>::kTeam, "as many warps share the positions of a query");

template <int T, bool Row = false>
struct AttentionScratch {
  using S = Sets<T, Row>;
  static constexpr int kApart = kChecks<T> ? T : 1;  // tokens whose own position is apart from the tiles
  static constexpr int kQueryStride = kHeadPad + 32, kOutStride = kHeadPad / 8 + 4;
  static constexpr int kParts = kWarps * S::kHeld;  // a part is what one warp has of one set
  alignas(16) Wire queries[S::kForAll ? 1 : kWarps][S::kForAll ? S::kQueries : S::kEach][kQueryStride];
  alignas(16) float out[kParts][S::kEach][8][kOutStride];  // element e at [line_of(query, e % 8)][e / 8]: a lane stores all that it has at once
  float row_max[kParts][8], row_sum[kParts][8];
  // A token's own position, where it is apart: its score with each query, its value, and where there are several tokens their keys behind all values.
  float own_score[kApart * kGroup];
  unsigned own_value[kChecks<T> ? 2 * T : 1][kHeadPad / 2];

  /** The line of elements e of a query with this e % 8. Lanes of a quad store two queries each, at the same time: to lines, and banks, of their own. */
  DEVICE static unsigned line_of(unsigned query, unsigned element) { return element ^ (query & 6); }

  /** Where a pair of a query's elements lies: of every four pairs the middle two trade places, as the matrix instruction takes them. */
  DEVICE static int query_place(int pair) { return (pair & ~3) | (pair & 1) << 1 | (pair >> 1 & 1); }

  /** Where the first of two elements lies in `out`, of the first warp of its set [floats]: item `i` of pairs of queries. */
  static constexpr int kPartSize = S::kEach * 8 * kOutStride;
  template <int Slices>
  DEVICE static unsigned place_of(unsigned i) {
    constexpr unsigned kPairs = kHeadDim / 2 / Slices;
    const unsigned query = i / kPairs, pair = i % kPairs, row = query % 8;
    return query / 8 * kPartSize + (row * 8 + line_of(row, 2 * pair % 8)) * kOutStride + pair / 4;
  }

  /** Where a query of this warp's sets lies, those behind it in the set kQueryStride apart. */
  DEVICE Wire* query(int number) { return S::kForAll ? queries[0][number] : queries[warp()][number - S::first_set() * 8]; }
};

/** Bytes of a position of the KV cache, and the tiles that a slot holds. */
constexpr int kRowBytes = kPositionSize * int(sizeof(Cache));
constexpr int kSlotTiles = kSlotBytes / (kKvTile * kRowBytes);
static_assert(kSlotTiles >= 1, "a slot holds 16 positions of a head");

template <int T>
struct alignas(128) SharedMemory {
  static constexpr int kTokens = T, kSlots = kKernel<T>.slots;
  union Work {
    char slices[kWarps][T * slice_stride(kMostWarpCells)];  // the products' inputs
    AttentionScratch<T> attention;
    AttentionScratch<1, T != 1> row;  // of one row of a batch
    alignas(16) float sampler[T == 1 ? kSamplerFloats : 4];
  };
  alignas(16) Work work;
  alignas(128) char own[T > 1 ? kKvTile * kRowBytes : 128];  // keys and values of several tokens, as a tile of the cache
  alignas(16) float sums[2][kKernel<T>.sum_tiles * kRowTile * T * kSumStride];
  alignas(16) float squares[2][T][kWarps];
  float residual[kMostHiddenTiles * kRowTile * T];
  float kept[kKeptTiles > 0 ? kKeptTiles * kRowTile * T : 1];  // rows that a product leaves for a later stage
  uint64_t full[kSlots], empty[kSlots];
  Flags flags;
  int token;
  int leave;
  int ids[T];  // of a batch
};

#if PROFILE
/** The track of this thread, where it computes and has one. */
DEVICE Track consumer_track(const LaunchArgs& pass) {
  Track track;
  if (threadIdx.x == 0) track.open(pass.profile, kFirstTrack);
  if (threadIdx.x == kThreads - 32) track.open(pass.profile, kLastTrack);
  return track;
}
#endif

/** Where the cache of a layer has the sequence of a row; `cache` has it of slot 0. */
template <class C>
DEVICE C* slot_cache(const LaunchArgs& pass, C* cache, int row) {
  return cache + pass.rows[row].slot * (size_t(kLayers) * kKvHeads * pass.context * kPositionSize);
}

/** A warp's view of its block. */
template <int T>
struct Cta {
  using Shared = SharedMemory<T>;
  const LaunchArgs& pass;
  Shared& s;
  char* ring;
  Cursor cursor;       // the slot that is read next
  int there = 0;       // slots from it on that are known to be full, where kKeepsPlaces
  int sum_buffer = 0;   // which buffer of sums
  int norm_buffer = 0;  // which buffer of squares
  int epoch = 0;        // of the exchanges: layers since the launch began
  int appends = 0;     // layers in which this block has appended to the cache
  int layer = 0;
  int position = 0;    // of the first token of this pass
  int step = 0;        // pass of the launch: the epoch of what is handed over after the layers
  unsigned started = 0;  // clock at the start of the stage
#if PROFILE
  mutable Track track = consumer_track(pass);
#endif

  DEVICE int index() const { return int(blockIdx.x); }

  /** True in a pass whose tokens belong to sequences of their own. */
  DEVICE bool batched() const {
    if constexpr (T > 1) return pass.batch;
    return false;
  }

  /** True in a pass that chooses the token after each of its tokens: behind it, from the best logits of all blocks or from those that are stored. */
  DEVICE bool chooses_each() const {
    if constexpr (T > 1) return pass.batch || pass.check;
    return false;
  }

  DEVICE int position_of(int token) const { return batched() ? pass.rows[token].position : position + token; }

  /** Where the cache of a layer has the sequence of a token. */
  DEVICE Cache* cache_of(const LayerWeights& w, int token) const { return batched() ? slot_cache(pass, w.cache, token) : w.cache; }

  /** All consumer warps meet. */
  DEVICE void sync() const { warps_sync(kConsumerBarrier, kThreads); }

  /** A stage begins. */
  DEVICE void begin() {
    started = clock();
    if (threadIdx.x == 0) s.flags.heartbeat = started;
  }

  /** For profiles: since the mark before, this warp was in a phase (kPhase... of abi.h) of a stage. By whole warps. */
  DEVICE void mark([[maybe_unused]] Stage stage, [[maybe_unused]] int phase) const {
#if PROFILE
    track.mark(mark_of(phase, int(stage), layer), position);
    __syncwarp();
#endif
  }

  /** What the block has appended to the cache is to become visible everywhere. By kAppenders threads. */
  DEVICE void hand_to_publisher([[maybe_unused]] Stage stage) const {
#if PROFILE
    if (threadIdx.x % kAppenders<T> == 0) s.flags.appending = mark_of(0, int(stage), layer), s.flags.append_position = position;
    __syncwarp();
#endif
    wake_publisher<T>();
  }

  /** Nothing can have arrived before so many cycles of the stage: polling earlier would only keep others waiting. */
  DEVICE void delay(Stage stage) const {
    while (int(clock() - started) < pass.delays[int(stage)]) {
    }
  }

  /** Before the next words are published: whoever reads them may read the cache too. Long done when it is asked for. */
  DEVICE void wait_appended(Stage stage) const {
    if (appends > 0) warp_wait_until(s.flags, place_of(stage, layer, kWaitsForWords), [&] { return s.flags.appended >= appends; });
  }

  /** After a stage that reads what all blocks publish once they have appended: all of these layers of the launch are in the cache.
   *  By the last warp, whole: the first ones are busy with what they publish. */
  DEVICE void mark_progress(Stage stage, int layers) const {
    if (warp() != kWarps - 1) return;
    wait_appended(stage);
    if (lane() == 0) s.flags.progress = layers;
    mark(stage, kPhasePublish);
  }

  /** Waits for slots from the next one on, a lane for one, where it is `wanted`. */
  DEVICE void wait_slots(bool wanted, Stage stage) const {
    mark(stage, kPhaseCompute);
    const Cursor mine = cursor.template ahead<Shared::kSlots>(lane());
    warp_wait_until(s.flags, place_of(stage, layer, kWaitsForTile),
                    [&] { return !wanted || mbarrier_try_wait(s.full + mine.slot, mine.parity); });
    mark(stage, kPhaseWeights);
  }

  /** Of the next `most` slots those that are full, one behind the other. */
  DEVICE int landed(int most) const {
    const Cursor mine = cursor.template ahead<Shared::kSlots>(lane());
    const unsigned full = __ballot_sync(~0u, lane() < most && mbarrier_test_wait(s.full + mine.slot, mine.parity));
    return __popc(full & ~(full + 1));  // from the first lane on
  }

  /** Waits for the next `count` slots, by a warp that keeps places: it asks once for all that are full by then, and not again for those. */
  DEVICE void wait_and_look(int count, Stage stage) {
    if (there >= count) return;
    wait_slots(lane() < count, stage);
    there = landed(Shared::kSlots);
    __syncwarp();
  }

  /**
   * Gives the next `count` slots back, a lane its own, where `mine`: the copy engine may replace their bytes at once, and does not wait for
   * loads that are still under way. So `read` has bits of all that was loaded from them, and the barriers' addresses hang on it.
   */
  DEVICE void free_slots(bool mine, unsigned count, unsigned read) {
    const unsigned nothing = unsigned(pass.tokens) >> 31;  // 0, which the compiler cannot know
    const Cursor own = cursor.template ahead<Shared::kSlots>(lane());
    __syncwarp();
    if (mine) mbarrier_arrive(s.empty + own.slot + (read & nothing));
    cursor = cursor.template ahead<Shared::kSlots>(int(count));
    if constexpr (kKeepsPlaces<T>) there = max(there - int(count), 0);
  }

  DEVICE void wait_slot(Stage stage) const { wait_slots(lane() == 0, stage); }
  DEVICE void free_slot(unsigned read) { free_slots(lane() == 0, 1, read); }

  /** Gives the next `count` slots back unread. */
  DEVICE void skip_slots(int count, Stage stage) {
#pragma unroll 1
    for (; count > 0; count -= Shared::kSlots - 1) {
      const int some = min(count, Shared::kSlots - 1);
      wait_slots(lane() < some, stage);
      free_slots(lane() < some, unsigned(some), 0);
    }
  }

  /** Gives back unread those of the next `count` slots that are there already. Returns how many. */
  DEVICE int skip_landed(int count) {
    const int some = landed(min(count, Shared::kSlots - 1));
    free_slots(lane() < some, unsigned(some), 0);
    return some;
  }

  /**
   * Cells `from` to from + N of this warp in the group of tiles that begins `at` groups into the next slot, of whose cells `copied` are
   * there: the others are what the ring holds. Slots that have been read to their end are given back, and the last one where `ends` says so.
   * A warp that has a cell less than others of each tile reads another's for it, which its input multiplies by zero.
   */
  template <class G, int N>
  DEVICE void read_cells(Cell<typename G::W, T> (&v)[N], int from, int at, int copied, bool ends, Stage stage) {
    static_assert(divide_up(N + (G::kParts > 1 ? G::kInSlot - 1 : 0), G::kInSlot) <= Shared::kSlots, "the slots of all cells are there together");
    using Columns = typename G::Columns;
    const int skipped = from / G::kInSlot * G::kInSlot;  // in slots that have been given back
    const unsigned to = unsigned(min(from + N, copied) - skipped), mine = unsigned(lane()) * G::kInSlot;  // where a lane's slot begins
    if constexpr (kKeepsPlaces<T>)
      wait_and_look(int(divide_up(to, unsigned(G::kInSlot))), stage);
    else
      wait_slots(mine < to, stage);
    unsigned read = 0;
    const uint32_t own = warp() * kBytesOfCell<typename G::W>, lacking = Columns::kRest > 0 && warp() >= Columns::kRest ? own : 0;
    const uint32_t cells = shared_address(ring) + own + at * G::kBytes;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (from + i >= G::kCells) break;
      const int slot = cursor.template ahead<Shared::kSlots>((from + i - skipped) / G::kInSlot).slot;
      const bool last = Columns::kRest > 0 && (from + i) % G::kWarpCells == G::kWarpCells - 1;  // of a tile: some warps lack it
      read |= v[i].load(cells + slot * kSlotBytes + G::place(from + i) - (last ? lacking : 0));
    }
    const unsigned end = ends ? to + G::kInSlot - 1 : to;  // the last slot is whole, or as good as that
    free_slots(mine + G::kInSlot <= end, end / G::kInSlot, read);
  }
};
