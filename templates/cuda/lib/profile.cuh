// What a thread writes down of when it did what, in a kernel that is built with -DPROFILE=1. Without it nothing of this is left.
#pragma once
#include "block.cuh"

#if PROFILE
#include "host/profile_marks.h"

/** What lasts less is counted to what comes after it [cycles]. */
constexpr int kShortestMark = 32;

DEVICE unsigned mark_of(int phase, int stage, int layer) { return unsigned(phase) << 24 | unsigned(stage) << 16 | unsigned(layer); }

/** The marks of one thread of a block; a thread that writes none has a track too, which does nothing. */
struct Track {
  ProfileMark* marks = nullptr;  // [kTrackMarks]
  int count = 0;
  unsigned missed = 0;
  long long last = 0;

  /** A launch begins. `number`: the track's among those of the block. */
  DEVICE void open(ProfileMark* of_all, int number) {
    marks = of_all + (size_t(blockIdx.x) * kBlockTracks + number) * kTrackMarks;
    count = max(1, int(marks[0].time));
    missed = marks[0].what;
    if (count + 4 > kTrackMarks) {
      marks[0].what = missed + 1;
      marks = nullptr;
      return;
    }
    put_clock();
  }

  /** Until now, since the mark before, lasted `what`. */
  DEVICE void mark(unsigned what, int position) {
    if (marks == nullptr) return;
    const long long now = clock64();
    if (now - last < kShortestMark) return;
    last = now;
    if (count + 2 < kTrackMarks)
      put(now, what, position);
    else
      ++missed;
  }

  /** The launch ends. */
  DEVICE void close() {
    if (marks == nullptr) return;
    put_clock();
    marks[0] = {(unsigned long long)count, missed, 0};
    marks = nullptr;
  }

 private:
  DEVICE void put(unsigned long long time, unsigned what, int position) { marks[count++] = {time, what, position}; }

  /** The same moment by both clocks. */
  DEVICE void put_clock() {
    const unsigned long long time = nanoseconds();
    last = clock64();
    put(last, 0, 0);
    put(time, kClockMark, 0);
  }
};

/** The track of a block at barriers, by thread 0, and the stage that it is in; in shared memory, as the state of the barrier. */
struct BlockTrack {
  Track track;
  int stage, layer, position;
  bool inside;  // a stage has begun, and its barrier has not been reached

  DEVICE void mark(int phase) { track.mark(mark_of(phase, stage, layer), position); }
};

DEVICE BlockTrack& block_track() {
  __shared__ __align__(16) char state[sizeof(BlockTrack)];
  return reinterpret_cast<BlockTrack&>(state);
}
#endif

/** A pass begins, a stage of it, and it ends: for profiles of kernels with barriers. */
template <class Block, class Pass>
DEVICE void begin_pass(Block&, const Pass& pass) {
#if PROFILE
  if (threadIdx.x != 0) return;
  BlockTrack& b = block_track();
  b.track = Track();
  b.track.open(pass.profile, 0);
  b.position = pass.position;
  b.inside = false;
#endif
}

template <class Block, class Stage>
DEVICE void begin_stage(Block&, Stage stage, int layer) {
#if PROFILE
  if (threadIdx.x != 0) return;
  BlockTrack& b = block_track();
  if (b.inside) b.mark(kPhaseCompute);
  b.stage = int(stage);
  b.layer = layer;
  b.inside = true;
#endif
}

template <class Block>
DEVICE void end_pass(Block&) {
#if PROFILE
  if (threadIdx.x != 0) return;
  BlockTrack& b = block_track();
  if (b.inside) b.mark(kPhaseCompute);
  b.track.close();
#endif
}

/** Inside a stage, by whole warps: a phase of it ends. */
DEVICE void mark_inside([[maybe_unused]] int phase) {
#if PROFILE
  if (threadIdx.x == 0) block_track().mark(phase);
  __syncwarp();
#endif
}

/** At a barrier: a phase of the stage before it ends. */
DEVICE void mark_phase([[maybe_unused]] int phase) {
#if PROFILE
  if (threadIdx.x != 0) return;
  BlockTrack& b = block_track();
  b.mark(phase);
  b.inside = false;
#endif
}
