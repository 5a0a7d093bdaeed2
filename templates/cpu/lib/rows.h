// Where the tokens of a pass stand: behind each other in one sequence, or each in a sequence of its own. The cache and the counts of a pass
// are those of its sequence; where tokens have rows, those of slot 0.
#pragma once
#include "host/row.h"
#include "lib/attention.h"
#include "lib/sampler.h"
#include "lib/team.h"

/** Of a pass with rows: from slot 0 of the cache to another. */
DEVICE int64_t sequence_at(const Block& b, int slot) { return slot * (b.team->sequence_bytes / (int64_t)sizeof(Cache)); }

/** Cos and sin by which a token is rotated: [kHeadDim / 2][2]. */
template <class Pass, class Weights> DEVICE const float* rope_row(const Block& b, const Pass& pass, const Weights& w, int token) {
  const Row* const rows = b.team->rows;
  return rows ? pass.rope + (int64_t)turned_by(w.layer, rows[token].position) * kHeadDim : rope_row(pass, w, token);
}

/** Key and value of a token. */
template <class Pass, class Weights> DEVICE Cache* token_row(const Block& b, const Pass& pass, const Weights& w, int head, int token) {
  const Row* const rows = b.team->rows;
  if (!rows) return cache_row(pass, w, head, pass.position + token);
  return cache_row(pass, w, head, rows[token].position) + sequence_at(b, rows[token].slot);
}

/** attend of one kv head and split for all tokens of a pass; each row sees its own sequence alone. */
template <int D, int Group, int Splits, class Pass, class Weights>
DEVICE void attend_rows(Block& b, int scratch, const float* q, int q_token_stride, const Pass& pass, const Weights& w, int head, float* partial,
                        int partial_token_stride, int split) {
  const auto with = [&](const Pass& part, int first, int64_t sequence, const Stretch<Number<Cache>>* behind) {
    const auto positions = positions_of(part, w, split);
    attend<D, Group, Splits>(b, scratch, q + (int64_t)first * q_token_stride, q_token_stride, cache_row(part, w, head, 0) + sequence,
                             partial + (int64_t)first * partial_token_stride, partial_token_stride, split, positions.begin, positions.end, part.position,
                             part.tokens, window_of(w.layer), behind);
  };
  const Row* const rows = b.team->rows;
  if (!rows) return with(pass, 0, 0, nullptr);
  Pass alone = pass, next = pass;
  alone.tokens = next.tokens = 1;
  for (int token = 0; token < pass.tokens; ++token) {
    alone.position = rows[token].position;
    const int64_t sequence = sequence_at(b, rows[token].slot);
    if (token + 1 == pass.tokens) return with(alone, token, sequence, nullptr);
    next.position = rows[token + 1].position;
    const auto seen = positions_of(next, w, split);
    const Cache* const keys = cache_row(next, w, head, seen.begin) + sequence_at(b, rows[token + 1].slot);
    const Stretch<Number<Cache>> behind = {numbers_of(keys), seen.end - seen.begin};
    with(alone, token, sequence, seen.begin < seen.end ? &behind : nullptr);
  }
}

/** The next token, where one may be chosen: by block 0; of rows [tokens] one each, dealt to all blocks. */
template <class Pass> DEVICE void choose(Block& b, const Pass& pass, int scratch) {
  if (!may_choose(b)) return;
  const Row* const rows = b.team->rows;
  for (int token = b.index(); rows && token < pass.tokens; token += b.count()) {
    const Row& row = rows[token];
    pass.next[token] = sample_one(b, pass.logits + (int64_t)token * kVocab, *row.sampling, pass.counts + (int64_t)row.slot * kVocab,
                                  b.team->choices[token], row.position + 1, scratch);
  }
  if (rows || b.index() != 0) return;
  const float* const logits = pass.logits + (int64_t)(pass.tokens - pass.first_logits - 1) * kVocab;  // of the last token
  sample(b, logits, pass.sampling, pass.counts, pass.position + pass.tokens, scratch, pass.next);
}
