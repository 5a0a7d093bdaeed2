// A launch: the roles of the warps, and the passes one after the other. Included after the stages.
#pragma once
#include "lib.cuh"

/** Everything of shared memory that is empty or zero at the start, and the tokens of a batch. By all threads. */
template <int T>
DEVICE void prepare(const LaunchArgs& pass, SharedMemory<T>& s, char* ring) {
  const int thread = int(threadIdx.x), threads = int(blockDim.x);
  for (int i = thread; i < SharedMemory<T>::kSlots; i += threads) {
    mbarrier_init(s.full + i, kCopiers);
    mbarrier_init(s.empty + i, kWarps);
  }
  // Positions that are not filled yet are multiplied by zero, so they must be numbers.
  const auto clear = [&](char* from, int bytes) {
    for (int i = thread; i < bytes / 16; i += threads) reinterpret_cast<uint4*>(from)[i] = make_uint4(0, 0, 0, 0);
  };
  clear(ring, SharedMemory<T>::kSlots * kSlotBytes);
  clear(s.own, int(sizeof s.own));
  if constexpr (T > 1) {
    if (pass.batch && thread < T) s.ids[thread] = pass.rows[thread].id < 0 ? pass.next[pass.rows[thread].slot] : pass.rows[thread].id;
  }
  if (thread == 0) {
    Flags& f = s.flags;
    f.failed = f.finished = f.progress = f.appended = f.stop = s.leave = 0;
    f.heartbeat = 0;
    for (int i = 0; i < kWarps; ++i) f.place[i] = 0;
  }
#if BULK_COPIES
  publish_mbarriers();
  asm volatile("fence.proxy.async;" ::: "memory");
#endif
  __syncthreads();
}

/** This block's residual starts as its rows of the tokens' embeddings. */
template <class P, int T>
DEVICE void embed_residual(Cta<T>& cta, const Table& table) {
  const int tiles = P::tiles(cta.index()), first_row = P::first(cta.index()) * kRowTile;
  for (int o = int(threadIdx.x); o < tiles * kRowTile * T; o += kThreads) {
    const int row = first_row + o / 4 / T * 4 + o % 4, token = o / 4 % T;
    cta.s.residual[o] = row < P::kRows ? number(stored_row(table.rows, table.ids[token], P::kRows), row) : 0.0f;
  }
}

/** Slots that this block may fill at once: those that alone have all positions of a head need more than their share. */
template <int T>
DEVICE int copies_at(int position) {
  const bool alone = int(blockIdx.x) < kKvHeads * kWholeShares<T> && splits_at(position) == 1;
  return alone ? kCopiesInFlight + 1 : kCopiesInFlight;
}

/** Slots more than for weights that a block may fill at once with positions of a batch: all wait for the block that has most of them. */
constexpr int kMoreForRows = 2;

/** Starts the copies of one layer's cached positions of a batch: of this block's share of every row. Tiles of rows stand behind each other in the slots. */
template <class Shared>
DEVICE bool stream_rows(Producer<Shared>& p, Stage stage, const Cache* cache, int layer, int copies) {
  p.begin_stage(stage);
  const LaunchArgs& pass = p.pass;
  const Unit unit = unit_of(int(blockIdx.x), kSplits);
  const int head = unit.head, share = unit.split;
  if (int(blockIdx.x) >= kUnits) return true;
  int left = 0;  // tiles of this block that are still to be copied
  each_row(pass, layer, share, [&](int, const RowShare& mine) { left += mine.tiles.end - mine.tiles.begin; });
  int used = 0;  // tiles in the slot that is being filled
  bool going = true;
  each_row(pass, layer, share, [&](int row, const RowShare& mine) {
    const char* const rows = reinterpret_cast<const char*>(slot_cache(pass, cache, row)) + size_t(head) * pass.context * kRowBytes;
    const int position = pass.rows[row].position;
    for (int tile = mine.tiles.begin; going && tile < mine.tiles.end;) {
      if (used == 0 && !(going = p.wait_free(copies + kMoreForRows))) return;
      const int tiles = min(kSlotTiles - used, mine.tiles.end - tile);
      const int first = tile * kKvTile, last = min((tile + tiles) * kKvTile, position);
      p.add_copy(used * (kKvTile * kRowBytes), rows + size_t(first) * kRowBytes, (last - first) * kRowBytes);
      tile += tiles, used += tiles, left -= tiles;
      if (used == kSlotTiles || left == 0) p.end_copies(), used = 0;
    }
  });
  return going;
}

/** Starts the copies of one layer's cached positions: those of this block's unit. */
template <class Shared>
DEVICE bool stream_cache(Producer<Shared>& p, Stage stage, const Cache* cache, int layer, int position, int copies) {
  if constexpr (Shared::kTokens > 1)
    if (p.pass.batch) return stream_rows(p, stage, cache, layer, copies);
  p.begin_stage(stage);
  const int splits = splits_at(position), shares = splits == 1 ? kWholeShares<Shared::kTokens> : splits;
  if (int(blockIdx.x) >= kKvHeads * shares) return true;
  const Unit unit = unit_of(int(blockIdx.x), shares);
  const int head = unit.head, split = splits == 1 ? 0 : unit.split;
  const Range tiles = tiles_of(layer, position, split, splits);
  const char* const rows = reinterpret_cast<const char*>(cache) + size_t(head) * p.pass.context * kRowBytes;
  for (int tile = tiles.begin; tile < tiles.end; tile += kSlotTiles) {
    const int first = tile * kKvTile, last = min(min(tile + kSlotTiles, tiles.end) * kKvTile, position);
    if (!p.fill(rows + size_t(first) * kRowBytes, (last - first) * kRowBytes, copies)) return false;
  }
  return true;
}

#if MOVE_REGISTERS
/** Registers of a thread as it is launched, of a thread that computes, and of the others, which are half as many. What is read of several tokens takes
 *  the others more of them. */
constexpr int kLaunched = 65536 / (kThreads + kProducerThreads) / 8 * 8;
template <int T>
constexpr int kComputing = T == 1 ? 232 : 224;
template <int T>
constexpr int kOthers = 3 * kLaunched - 2 * kComputing<T>;
static_assert(kThreads == 2 * kProducerThreads);
#endif

/** Warps that compute take the registers that the others do not need. */
template <int T>
DEVICE void more_registers() {
#if MOVE_REGISTERS
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kComputing<T>));
#endif
}

template <int T>
DEVICE void fewer_registers() {
#if MOVE_REGISTERS
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kOthers<T>));
#endif
}

/** Chooses the token, hands it to the host, and says whether the launch ends here: the same in every block. */
template <class P, int T, class Candidates, class SampledToken>
DEVICE bool end_step(Cta<T>& cta, const Candidates& candidates, const SampledToken& sampled_token, const Best& best, int step, Stage stage) {
  cta.begin();
  const int token = choose<P>(cta, candidates, sampled_token, best, step, stage);
  cta.mark(stage, kPhaseOthers);
  if (threadIdx.x == 0) {
    if (cta.index() == 0 && !cta.s.flags.failed) reply(cta.pass, step, token);
    cta.s.token = token;
    cta.s.leave = cta.s.leave || token < 0 || cta.s.flags.failed || step + 1 == cta.pass.steps || is_stop(cta.pass, token);
  }
  cta.sync();
  cta.mark(stage, kPhaseMeet);
  return cta.s.leave != 0;
}

/** The last thing that a block's computing warps do: the other warps may leave. */
template <int T>
DEVICE void finish(Cta<T>& cta) {
  cta.sync();
  if (threadIdx.x == 0) cta.s.flags.finished = 1;
  cta.sync();
  if (threadIdx.x < kAppenders<T>) wake_publisher<T>();
#if PROFILE
  cta.track.close();
#endif
}
