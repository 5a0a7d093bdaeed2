// What kernels that are built with -DPROFILE=1 write, and the host makes events of.
#pragma once
#include <cstdint>

/** A moment of a track, and what has lasted until then. */
struct ProfileMark {
  unsigned long long time;  // cycles of its multiprocessor
  unsigned what;            // phase << 24 | stage << 16 | layer, or kClockMark
  int position;             // of the pass's first token
};

/** The clock of all multiprocessors [ns], at the cycle of the mark before it: at the begin and at the end of a launch. */
constexpr unsigned kClockMark = ~0u;
/** Marks of a track: the first tells how many of them are written (`time`), and how many found no room (`what`). */
constexpr int kTrackMarks = 1 << 14;
/** Tracks of a block. Which they are depends on the scheme. */
constexpr int kBlockTracks = 4;
