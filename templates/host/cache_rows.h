// Positions of one sequence of the KV cache, which lies [heads of all layers][context][bytes of a position], as one run of bytes for each head.
#pragma once
#include <cstdint>

/** The first head's run, and how many bytes behind one head's run the next one's begins. */
template <class Byte>
struct HeadRuns {
  Byte* first;
  int64_t pitch;
};

struct CacheShape {
  int64_t heads;    // of all layers
  int64_t context;  // positions of each
  int64_t bytes;    // of a position: its key and its value

  int64_t position_bytes() const { return heads * bytes; }

  /** From a position on, in a sequence of the cache. */
  template <class Byte>
  HeadRuns<Byte> runs(Byte* sequence, int64_t position) const {
    return {sequence + position * bytes, context * bytes};
  }

  /** Of a copy [heads][count][bytes of a position]. */
  template <class Byte>
  HeadRuns<Byte> packed_runs(Byte* copy, int64_t count) const {
    return {copy, count * bytes};
  }
};
