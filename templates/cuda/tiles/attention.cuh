// Causal attention of a prompt over the cache, which has the prompt's own positions too: 16 queries of a head a warp, tiles of positions
// through shared memory, running softmax (flash attention).
#pragma once
#include "attended.cuh"
#if WGMMA
#include "attention_wgmma.cuh"
#else
#include "attention_mma.cuh"
#endif

namespace tiles {

/** Attention of all heads and tokens: the longest units first, and dealt so that blocks have about as many positions. */
template <class P>
DEVICE void attend(Block& b, const Wire* queries, char* att, const Wire* positions, int layer) {
  const int token_tiles = divide_up(b.tokens(), kQueryTile), units = token_tiles * kQHeads;
  for (int turn = 0; turn * b.count() < units; ++turn) {
    const int unit = snake(turn, b.index(), b.count());
    if (unit >= units) continue;
    const AttendedUnit of(b, positions, layer, unit % kQHeads, (token_tiles - 1 - unit / kQHeads) * kQueryTile);
    if (b.feeds)
      feed_positions(b, of);
    else
      attend_unit<P>(b, of, queries, att);
  }
}

}  // namespace tiles
