// Embedding lookup.
#pragma once
#include "lib/simd.h"
#include "lib/team.h"

/** dst [tokens][K] := rows ids[token] of table [kVocab][padded(K)], columns [begin, end) of each. */
template <int K>
DEVICE void embed(Block&, float* dst, const Matrix* table, const int* ids, int tokens, Range columns) {
  for (int token = 0; token < tokens; ++token) {
    const Matrix* const row = table + (int64_t)ids[token] * padded(K);
    float* const x = dst + (int64_t)token * K;
    for (int i = columns.begin; i < columns.end; ++i) x[i] = to_float(row[i]);
  }
}
