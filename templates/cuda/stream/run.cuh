// A launch: the roles of the warps, and the passes one after the other. Included behind the stages.
#pragma once
#include "lib.cuh"

/** Everything of shared memory that is empty or zero at the start. By all threads. */
template <int T>
DEVICE void prepare(SharedMemory<T>& s, char* ring) {
  const int thread = int(threadIdx.x), threads = int(blockDim.x);
  for (int i = thread; i < SharedMemory<T>::kSlots; i += threads) {
    barrier_init(s.full + i, kCopiers);
    barrier_init(s.empty + i, kWarps);
  }
  // Positions that are not filled yet are multiplied by zero, so they must be numbers.
  const auto clear = [&](char* from, int bytes) {
    for (int i = thread; i < bytes / 16; i += threads) reinterpret_cast<uint4*>(from)[i] = make_uint4(0, 0, 0, 0);
  };
  clear(ring, SharedMemory<T>::kSlots * kSlotBytes);
  clear(s.own, int(sizeof s.own));
#if PROFILE
  for (int i = thread; i < 96; i += threads) s.spent[i / 6][i % 6] = 0;
#endif
  if (thread == 0) {
    Flags& f = s.flags;
    f.failed = f.finished = f.progress = f.appended = f.stop = s.leave = 0;
    f.pulse = 0;
    for (int i = 0; i < kWarps; ++i) f.place[i] = 0;
  }
#if BULK_COPIES
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async;" ::: "memory");
#endif
  __syncthreads();
}

/** This block's residual starts as its rows of the tokens' embeddings. */
template <class P, int T>
DEVICE void embed_residual(Worker<T>& b, const Weight* table, const int* ids) {
  const int tiles = P::tiles(b.index()), first_row = P::first(b.index()) * 8;
  for (int o = int(threadIdx.x); o < tiles * 8 * T; o += kThreads) {
    const int row = first_row + o / 4 / T * 4 + o % 4, token = o / 4 % T;
    b.s.residual[o] = row < P::kRows ? to_float(table[size_t(ids[token]) * padded(P::kRows) + row]) : 0.0f;
  }
}

/** Slots that this block may fill at once: those that alone have all positions of a head need more than their share. */
DEVICE int window_at(int position) {
  const bool alone = int(blockIdx.x) < kUnits && int(blockIdx.x) % kSplits == 0 && splits_at(position) == 1;
  return alone ? kWindow + 1 : kWindow;
}

/** Starts the copies of one layer's cached positions: those of this block's unit. */
template <class Shared>
DEVICE bool stream_cache(Producer<Shared>& p, const Weight* cache, int position, int window) {
  const int block = int(blockIdx.x), head = block / kSplits, split = block % kSplits, splits = splits_at(position);
  if (block >= kUnits || split >= splits) return true;
  const Range tiles = tiles_of(position, split, splits);
  const char* const rows = reinterpret_cast<const char*>(cache) + size_t(head) * p.pass.context * kRowBytes;
  for (int tile = tiles.begin; tile < tiles.end; tile += kSlotTiles) {
    const int first = tile * kTilePositions, last = min(min(tile + kSlotTiles, tiles.end) * kTilePositions, position);
    if (!p.fill(rows + size_t(first) * kRowBytes, (last - first) * kRowBytes, window)) return false;
  }
  return true;
}

/** Consumers take the registers that the producer does not need. */
DEVICE void more_registers() {
#if MOVE_REGISTERS
  asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
#endif
}

DEVICE void fewer_registers() {
#if MOVE_REGISTERS
  asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
#endif
}

/** Chooses the token, hands it to the host, and says whether the launch ends here: the same in every block. */
template <int T>
DEVICE bool end_step(Worker<T>& b, const Offers& offers, const Chosen& chosen, const Best& best, int step, int stage) {
  b.begin();
  const int token = choose(b, offers, chosen, best, step, stage);
  if (threadIdx.x == 0) {
    if (b.index() == 0 && !b.s.flags.failed) reply(b.pass, step, token);
    b.s.token = token;
    b.s.leave = b.s.leave || b.s.flags.failed || step + 1 == b.pass.steps || is_stop(b.pass, token);
  }
  b.sync();
  return b.s.leave != 0;
}

#if PROFILE
/** Prints a block's times [cycles of a token]. */
template <int T>
DEVICE void print_profile(const Worker<T>& b, int steps) {
  if (threadIdx.x != 0 || (T == 1 ? steps < 50 : b.position != 512)) return;
  for (int i = 0; i < int(sizeof kStageNames / sizeof *kStageNames); ++i) {
    const unsigned* const t = b.s.spent[i];
    printf("profile block %d position %d %s: weights %u (waiting %u) wait %u compute %u meet %u publish %u\n", b.index(), b.position,
           stage_name(i), t[0] / steps, t[5] / steps, t[1] / steps, t[2] / steps, t[3] / steps, t[4] / steps);
  }
}
#endif
