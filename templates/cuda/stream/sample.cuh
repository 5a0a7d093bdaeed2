// The kernel behind a pass of several tokens, whose blocks may not wait for each other: it chooses by the logits that the pass has left.
#pragma once
#include "choose.cuh"
#include "host/stream_calls.h"

/** The logit of a token that its mask forbids: finite, so that no sampler takes it for a fault, and neither bias nor penalty brings it back. */
constexpr float kNoMatch = -1e30f;

/** Calls f(id, logit) for a warp's share of the ids [first, end) of a row of logits; kNoMatch where they are finite and the row's mask forbids the id.
 *  A warp reads its words, which are the host's memory, at once. */
template <class F>
DEVICE void for_masked(const float* logits, const unsigned* words, int vocab, int first, int end, F&& f) {
  const int begin = first / 32, each = divide_up(divide_up(end, 32) - begin, kWarps);
  const int mine = begin + warp() * each, stop = min(mine + each, divide_up(end, 32));
  for (int base = mine; base < stop; base += 32) {
    const unsigned word_of_lane = words && base + lane() < stop && 32 * (base + lane()) < vocab ? words[base + lane()] : ~0u;
    for (int i = 0; i < min(32, stop - base); ++i) {
      const int id = 32 * (base + i) + lane();
      const unsigned word = __shfl_sync(~0u, word_of_lane, i);
      if (id < first || id >= end) continue;
      const float logit = logits[id];
      const bool banned = id < vocab && (word >> lane() & 1) == 0 && !not_finite(bits_of(logit));
      f(id, banned ? kNoMatch : logit);
    }
  }
}

/** Leaves to sample_logits the best score of a block's rows of the head P in a row of logits, as its mask allows; and, where there is room for them and
 *  some are to be drawn among, its masked logits. A block for each share of each row. */
template <class P>
DEVICE void score_rows(const LaunchArgs& pass, const RowMasks& masks, float* masked) {
  const int row = int(blockIdx.y), block = int(blockIdx.x);
  const ToChoose by = to_choose(pass, pass.batch || pass.check ? row : pass.tokens - 1);
  const Score score(by);
  float* const copy = masked && is_filtered(by.sampling) ? masked + size_t(row) * kVocab : nullptr;
  const int first = P::first(block) * kRowTile, end = min(first + P::tiles(block) * kRowTile, known_ids(by.sampling));
  Best best;
  for_masked(pass.logits + size_t(row) * kVocab, masks.words[row], masks.vocab[row], first, end, [&](int id, float logit) {
    if (copy) copy[id] = logit;
    score.consider(logit, id, best);
  });
  const uint64_t value = block_largest(best.value);
  if (threadIdx.x == 0) pass.bests[row * kBlocks + block] = value;
}

/** The same for all blocks' rows of a row of logits, by one block. */
template <class P>
DEVICE void score_row(const LaunchArgs& pass, const ToChoose& by, size_t kept) {
  const Score score(by);
  const float* const logits = pass.logits + kept * kVocab;
  for (int block = warp(); block < kBlocks; block += kWarps) {
    const int first = P::first(block) * kRowTile, end = min(first + P::tiles(block) * kRowTile, known_ids(by.sampling));
    Best best;
#pragma unroll 4
    for (int id = first + lane(); id < end; id += 32) score.consider(__ldcg(logits + id), id, best);
    const uint64_t value = warp_largest(best.value);
    if (lane() == 0) pass.bests[kept * kBlocks + block] = value;
  }
  __syncthreads();
}

/** Whether a block is the last of so many that come here: what the others have written before is there. `*arrived` is 0 before and behind that. */
DEVICE bool comes_last(int* arrived, int blocks) {
  __shared__ bool last;
  block_sync();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(arrived, 1) == blocks - 1;
    if (last) *arrived = 0;
    __threadfence();
  }
  block_sync();
  return last;
}

/** A draw by the blocks of a row of logits: what is drawn, in the last of them to have looked at its part; false in the others.
 *  @param best key of the best score of block threadIdx.x of the head P  @param found what the blocks hand on, all 0 between launches */
template <class P>
DEVICE bool draw_of_row(uint32_t best, const Logits& logits, const Sampling& s, int position, int part, int parts, Choices::Row& found, float* scratch,
                         Choice& choice) {
  static_assert(kListedOfRow == kCandidates);
  CandidateList list(scratch);
  PartedDraw<P> draw(best, logits, s, position);
  const auto first = [&](int of) { return min(P::first(of * kBlocks / parts) * kRowTile, logits.vocab); };
  const auto mine = draw.template list<8>(first(part), part + 1 < parts ? first(part + 1) : logits.vocab, list.threads, [&](int i, uint32_t key, int id) {
    if (i < kCandidates) list.put(i, candidate_of(key, id));
  });
  __shared__ int begin;
  if (threadIdx.x == 0) {
    begin = atomicAdd(&found.listed, min(mine.listed, kCandidates + 1));
    if (draw.weighs_all()) atomicAdd(&found.mass, (unsigned long long)mine.mass);
  }
  block_sync();
  for (int i = int(threadIdx.x); i < mine.listed && begin + i < kCandidates; i += kThreads) found.candidates[begin + i] = candidate_of(list.keys[i], list.ids[i]);
  if (!comes_last(&found.parts, parts)) return false;
  list.n = __ldcg(&found.listed);
  const uint64_t mass = __ldcg(&found.mass);
  for (int i = int(threadIdx.x); i < min(list.n, kCandidates); i += kThreads) list.put(i, __ldcg(found.candidates + i));
  block_sync();
  if (threadIdx.x == 0) found.listed = 0, found.mass = 0;
  choice = draw.choose(list, draw.settle(list, mass));
  return true;
}

/** The token after a row of logits, in the last of its blocks to have looked; false in the others. The blocks of the head P have left the best scores of
 *  their rows of it. */
template <class P>
DEVICE bool choose_of_row(const LaunchArgs& pass, const ToChoose& by, size_t kept, Choices::Row& row, float* scratch, int* chosen) {
  const uint64_t best = int(threadIdx.x) < kBlocks ? pass.bests[kept * kBlocks + int(threadIdx.x)] : 0;
  if (!is_filtered(by.sampling)) {
    if (blockIdx.x > 0) return false;
    *chosen = Best::token_of(block_largest(best));
    return true;
  }
  const Logits logits(pass.logits + kept * kVocab, by.sampling, by.counts, by.bias);
  Choice choice;
  if (!draw_of_row<P>(uint32_t(best >> 32), logits, by.sampling, by.position, int(blockIdx.x), int(gridDim.x), row, scratch, choice)) return false;
  *chosen = choice.of_block();
  return true;
}

/** The tokens after all drafts of a check whose penalties depend on what was chosen before, up to the first that is not the draft behind it. */
template <class P>
DEVICE void sample_in_order(const LaunchArgs& pass, float* scratch) {
  for (int token = 0; token < pass.tokens; ++token) {
    const ToChoose by = to_choose(pass, token);
    const size_t kept = size_t(token - pass.first_logits);
    score_row<P>(pass, by, kept);
    int chosen;
    choose_of_row<P>(pass, by, kept, pass.choices->rows[0], scratch, &chosen);
    keep_choice(chosen, by.counts, by.next);
    if (threadIdx.x == 0) reply(by.next, pass.reply + token, chosen);
    if (token + 1 < pass.tokens && chosen != pass.ids[token + 1]) break;
    __syncthreads();  // what is counted
  }
}

/** Samples the token after a pass of several tokens from its stored logits; in a batch that after each row; in a check that after each token, up to
 *  the first that is not the draft behind it. By kThreads threads of blocks [of a row][rows].
 *  @param scored whether blocks have left the best scores of their rows of the head P; otherwise by one block, row by row */
template <class P>
DEVICE void sample_logits(const LaunchArgs& pass, bool scored) {
  if (load_relaxed(pass.status) != 0) return;  // the pass has failed
  alignas(16) __shared__ float scratch[kSamplerFloats];
  if (!scored) return sample_in_order<P>(pass, scratch);
  const int row = int(blockIdx.y), token = pass.batch || pass.check ? row : pass.tokens - 1;
  const ToChoose by = to_choose(pass, token);
  Choices& choices = *pass.choices;
  int chosen;
  if (!choose_of_row<P>(pass, by, size_t(token - pass.first_logits), choices.rows[row], scratch, &chosen)) return;
  if (!pass.check) {
    if (threadIdx.x != 0) return;
    keep_choice(chosen, by.counts, by.next);
    return reply(by.next, pass.reply + (pass.batch ? row : 0), chosen);
  }
  if (threadIdx.x == 0) choices.chosen[row] = chosen;
  if (!comes_last(&choices.chosen_rows, pass.tokens) || threadIdx.x != 0) return;
  for (int i = 0; i < pass.tokens; ++i) {
    chosen = __ldcg(choices.chosen + i);
    keep_choice(chosen, by.counts, by.next);
    reply(by.next, pass.reply + i, chosen);
    if (i + 1 < pass.tokens && chosen != pass.ids[i + 1]) break;
  }
}
