// Embedding lookup.
#pragma once
#include "lib/simd.h"
#include "lib/team.h"

/** dst [tokens][K] := rows ids[token] of table [kVocab][padded(K)], columns [begin, end) of each. */
template <int K, class W>
DEVICE void embed(Block&, float* dst, const W* table, const int* ids, int tokens, Range columns) {
  for (int token = 0; token < tokens; ++token) {
    const W* const row = table + ids[token] * stored<W>(padded(K));
    float* const x = dst + (int64_t)token * K;
    for (int i = columns.begin; i < columns.end; ++i) x[i] = element(row, i);
  }
}
