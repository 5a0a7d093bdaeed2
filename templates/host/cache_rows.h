// Positions of one sequence of the KV cache, which lies [heads of all layers][context][bytes of a position], as runs of memory.
#pragma once
#include <cstdint>

struct CacheShape {
  int64_t heads;    // of all layers
  int64_t context;  // positions of each
  int64_t bytes;    // of a position: its key and its value

  int64_t position_bytes() const { return heads * bytes; }
};

/** run(from, to, bytes) for each head: where its positions [position, position + count) begin in the sequence, and where in a copy
 *  [heads][count][bytes], and how many bytes they are. */
template <class Run>
void for_each_head(const CacheShape& cache, int64_t position, int64_t count, Run&& run) {
  for (int64_t head = 0; head < cache.heads; ++head) {
    run((head * cache.context + position) * cache.bytes, head * count * cache.bytes, count * cache.bytes);
  }
}
