// The weight stream: a ring of slots in shared memory that a producer fills and all warps of the block empty together.
#pragma once
#include "deal.cuh"
#include "lib/mbarrier.cuh"

static_assert(kSlotCells<Matrix> > 0, "a slot holds a cell of every warp");

/** A place in the ring, and the parity of its turn. */
struct Cursor {
  int slot = 0;
  unsigned parity = 0;

  /** `count` slots further, at most once around. */
  template <int Slots>
  DEVICE Cursor ahead(int count) const {
    const int to = slot + count;
    return to < Slots ? Cursor{to, parity} : Cursor{to - Slots, parity ^ 1};
  }
};

#if BULK_COPIES
constexpr int kCopiers = 1;  // threads that fill a slot together
#else
constexpr int kCopiers = 32;
#endif

/** The filling side: one thread where the copy engine does the work, a warp elsewhere. */
template <class Shared>
struct Producer {
  static constexpr int kSlots = Shared::kSlots;
  const LaunchArgs& pass;
  Shared& s;
  char* ring;
  Cursor next, landing;  // the slot to fill, and the oldest that is still on its way
  int under_way = 0;
#if BULK_COPIES
  uint64_t once;  // cache policy: read once
#endif

  DEVICE Producer(const LaunchArgs& pass, Shared& s, char* ring) : pass(pass), s(s), ring(ring) {
#if BULK_COPIES
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(once));
#endif
#if PROFILE
    if (lane() == 0) track.open(pass.profile, kProducerTrack);
#endif
  }

  /** For profiles: what the copies from here on are for, and how this warp spent the time since the mark before. */
  DEVICE void begin_layer([[maybe_unused]] int step, [[maybe_unused]] int to) {
#if PROFILE
    position = pass.position + step, layer = to;
#endif
  }

  DEVICE void begin_stage([[maybe_unused]] Stage to) {
#if PROFILE
    stage = int(to);
#endif
  }

  DEVICE void mark([[maybe_unused]] int phase) {
#if PROFILE
    track.mark(mark_of(phase, stage, layer), position);
    __syncwarp(__activemask());
#endif
  }

#if PROFILE
  Track track;
  int stage = 0, layer = 0, position = 0;

  DEVICE ~Producer() { track.close(); }
#endif

  DEVICE bool leaving() const { return s.flags.finished || s.flags.failed; }

  /** Waits for a free slot, then until fewer than `copies` are under way. False when the launch ends. */
  DEVICE bool wait_free(int copies) {
    if (copies > kSlots - 1) copies = kSlots - 1;
    const unsigned free_parity = next.parity ^ 1;
    uint64_t* const free = s.empty + next.slot;
    while (!mbarrier_try_wait(free, free_parity))
      if (leaving()) return false;
    mark(kPhaseMeet);
    // Deep in what has landed, shallow in what is asked for: a long queue would delay what blocks hand to each other.
    if (under_way >= copies) {
      const int ahead = next.slot + kSlots / 4;
      const bool hungry = mbarrier_test_wait(s.empty + (ahead < kSlots ? ahead : ahead - kSlots), ahead < kSlots ? free_parity : free_parity ^ 1);
      settle(hungry ? copies : copies - 1);
      mark(kPhaseWeights);
    }
    return true;
  }

  /** Starts the copy into the next slot, when there is one. False when the launch ends. */
  DEVICE bool fill(const char* from, int bytes, int copies) {
    if (!wait_free(copies)) return false;
    uint64_t* const full = s.full + next.slot;
#if BULK_COPIES
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(full)), "r"(bytes) : "memory");
#endif
    copy(ring + next.slot * kSlotBytes, from, bytes, full);
#if !BULK_COPIES
    mbarrier_arrive_copied(full);
#endif
    end_fill();
    return true;
  }

  /** In the place of fill where a slot takes several copies: one of them, to a byte of the next slot, which wait_free has found; then its end. */
  DEVICE void add_copy(int at, const char* from, int bytes) {
    uint64_t* const full = s.full + next.slot;
#if BULK_COPIES
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(shared_address(full)), "r"(bytes) : "memory");
#endif
    copy(ring + next.slot * kSlotBytes + at, from, bytes, full);
  }

  DEVICE void end_copies() {
#if BULK_COPIES
    mbarrier_arrive(s.full + next.slot);
#else
    mbarrier_arrive_copied(s.full + next.slot);
#endif
    end_fill();
  }

  DEVICE void end_fill() {
    ++under_way;
    next = next.template ahead<kSlots>(1);
    mark(kPhasePublish);
  }

  /** Returns when at most `left` copies are under way. */
  DEVICE void settle(int left) {
    for (; under_way > left; --under_way) {
      while (!mbarrier_try_wait(s.full + landing.slot, landing.parity)) {
      }
      landing = landing.template ahead<kSlots>(1);
    }
  }

  DEVICE void copy(char* to, const char* from, int bytes, [[maybe_unused]] uint64_t* full) {
#if BULK_COPIES
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
                     shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(full)), "l"(once)
                 : "memory");
#else
    for (int at = lane() * 16; at < bytes; at += 512)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to + at)), "l"(__cvta_generic_to_global(from + at))
                   : "memory");
#endif
  }

  /** All tiles of a product that this block has, of a layer that begins here in the stream. */
  template <class P>
  DEVICE bool tiles(const char* layer_stream, int copies) {
    begin_stage(P::kStage);
    const int block = opaque(int(blockIdx.x));  // else the places of all products would stay in registers
    const char* from = layer_stream + P::at(block);
    using G = Group<P, Shared::kTokens>;
    const int cells = P::tiles(block) * P::kWarpCells;
    constexpr int kTogether = G::kShare * G::kCells;  // cells of a warp that begin a slot together
    for (int first = 0; first < cells; first += kTogether) {
      const int end = min(first + kTogether, cells);
      for (int cell = first; cell < end; cell += G::kInSlot) {
        const int bytes = P::before(min(cell + G::kInSlot, end)) - P::before(cell);
        if (!fill(from, bytes, copies)) return false;
        from += bytes;
      }
    }
    return true;
  }

  /** Waits until this block has seen all that its predecessors wrote into the cache of a layer. */
  DEVICE bool wait_for_progress(int layers) {
    while (s.flags.progress < layers)
      if (leaving()) return false;
    mark(kPhaseOthers);
    return true;
  }
};
