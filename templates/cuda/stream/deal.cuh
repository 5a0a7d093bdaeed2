// How a product is dealt: rows to tiles, tiles to blocks, columns to warps, and what a warp reads of them to slots of the ring.
#pragma once
#include "formats.cuh"

/**
 * A product of Rows x K: how its tiles of rows are dealt to blocks, and the columns of a tile to warps. In the stream its tiles lie one
 * behind the other from byte At of a layer on, or of the stream for the head. W is what its matrix is stored as. PassedBy: a block without a tile
 * goes on to the next stage; otherwise it waits for the input like the others.
 */
template <int K, int Rows, Stage S, int64_t At, class W = Matrix, bool PassedBy = false>
struct Product {
  using Stored = W;
  static constexpr int kColumns = K, kRows = Rows;
  static constexpr Stage kStage = S;
  static constexpr int64_t kAt = At;
  static constexpr int kTiles = divide_up(Rows, kRowTile);
  static constexpr int kMostTiles = divide_up(kTiles, kBlocks);         // tiles of the busiest block
  static constexpr bool kPassedBy = PassedBy;
  static constexpr bool kEven = kTiles % kBlocks == 0 || PassedBy;      // all blocks that take part have as many
  using Columns = WarpColumns<K>;
  static constexpr int kCells = Columns::kCells, kWarpCells = Columns::kWarpCells;  // of a tile; of a warp in it, at most
  static constexpr int kTileBytes = kCells * kBytesOfCell<W>;
  static constexpr int kInputWords = divide_up(K, 2);
  /** True when every warp has kWarpCells cells of real columns. */
  static constexpr bool kExact = kWarpCells * kWarps * 32 == K;

  /** What is left once all have as many goes to the last blocks, one each: the first ones attend. */
  BOTH static constexpr int first(int block) {
    constexpr int kEach = kTiles / kBlocks, kWithout = kBlocks - kTiles % kBlocks;
    return kEach * block + (block > kWithout ? block - kWithout : 0);
  }
  BOTH static constexpr int tiles(int block) {
    if constexpr (kTiles % kBlocks == 0) return kMostTiles;
    return first(block + 1) - first(block);
  }
  /** Where a block's tiles begin. */
  BOTH static constexpr int64_t at(int block) { return kAt + int64_t(first(block)) * kTileBytes; }
  /** Bytes in front of what all warps read together: their cells number `cell` of some tiles. */
  BOTH static constexpr int before(int cell) { return cell / kWarpCells * kTileBytes + cell % kWarpCells * (kWarps * kBytesOfCell<W>); }
};

/** A few tokens of a wide model take registers for their input and their queries that others have for weights. */
template <int T>
constexpr bool kFewRegisters = T > 1 && T <= 8 && kHidden >= 256 * kWarps;

/**
 * Whether a warp keeps in registers where its lanes read and store, and what it has seen of the ring. Where weights are taken apart before they are
 * multiplied, a few tokens wait for instructions; numbers as they are, and more tokens, need the registers.
 */
template <int T>
constexpr bool kKeepsPlaces = T <= 4 && kNumbers<Matrix> > 1;

/** Cells that a warp keeps in registers while it waits for its input, if it can. */
template <class W, int T>
constexpr int kWantedCells = kFewRegisters<T> ? 4 : T > 8 ? (kNumbers<W> > 1 ? 6 : 8) : 24;

/**
 * Tiles whose cells a warp of the kernel of T tokens holds at once. A group begins a slot; where several fit into one, they share it. So what
 * a warp reads lies at places that are known when this is compiled, but for the slot. The last group of a block may have fewer tiles.
 */
template <class P, int T>
struct Group {
  using W = typename P::Stored;
  static constexpr int kRing = kKernel<T>.slots - 1;  // slots that a warp may wait for together
  /** The most that fit, or fewer where as many groups do with them. */
  BOTH static constexpr int tiles() {
    constexpr int cells = kWantedCells<W, T> < kRing * kSlotCells<W> ? kWantedCells<W, T> : kRing * kSlotCells<W>;
    constexpr int held = cells / P::kWarpCells, summed = kKernel<T>.sum_tiles, fitting = held < summed ? held : summed;
    return fitting < 1 ? 1 : divide_up(P::kMostTiles, divide_up(P::kMostTiles, fitting));
  }
  static constexpr int kTiles = tiles(), kCells = kTiles * P::kWarpCells;  // cells of a warp
  using Columns = typename P::Columns;
  static constexpr int kWarpCells = P::kWarpCells, kBytes = kTiles * P::kTileBytes;
  /** Tiles after which the block adds up: whole groups, as many as it has room for the sums of. */
  BOTH static constexpr int meet() {
    constexpr int most = kKernel<T>.sum_tiles / kTiles * kTiles;
    return divide_up(divide_up(P::kMostTiles, divide_up(P::kMostTiles, most)), kTiles) * kTiles;
  }
  static constexpr int kMeet = meet();
  static constexpr int kSlots = divide_up(kCells, kSlotCells<W>);
  static constexpr int kShare = kSlots > 1 ? 1 : kSlotCells<W> / kCells;    // groups in a slot
  static constexpr int kInSlot = kShare * divide_up(kCells, kSlots);        // cells of a warp in a slot
  /** Cells that are read at once: all, or where a single tile has too many parts of it, each as large. */
  BOTH static constexpr int held() {
    constexpr int fitting = kRing * kInSlot, held = kWantedCells<W, T> < fitting ? kWantedCells<W, T> : fitting;
    return divide_up(kCells, divide_up(kCells, held));
  }
  static constexpr int kHeld = held(), kParts = divide_up(kCells, kHeld);
  /** Where in its slot the warps' cells number `cell` begin, if the group begins a slot. */
  BOTH static constexpr int place(int cell) { return P::before(cell) - P::before(cell / kInSlot * kInSlot); }
  static_assert(kTiles == 1 || kParts == 1, "the tiles of a group are read at once");
  static_assert(kShare * kCells == kInSlot || kShare == 1, "groups share a slot whole");
};
