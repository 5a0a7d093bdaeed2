// The order of a product's rows in the stream.
#pragma once
#include "cta.cuh"

/** The row of the packed matrix that row `row` of the stream is. */
struct SameRow {
  DEVICE int operator()(int row) const { return row; }
};

/** The same where only rows from `first` on are there. */
struct RowsFrom {
  int first;
  DEVICE int operator()(int row) const { return row - first; }
};

/** In the heads of queries and keys, elements i and i + D/2 become neighbours, so that one word holds what is rotated together. */
struct PairedHeads {
  DEVICE int operator()(int row) const {
    if (row >= kQDim + kKvDim) return row;
    const int element = row % kHeadDim;
    return row - element + element / 2 + element % 2 * (kHeadDim / 2);
  }
};
