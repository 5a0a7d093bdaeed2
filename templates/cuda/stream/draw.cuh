// A draw of which top_k, top_p or min_p leave some: by all blocks, each of which knows its own rows of the head.
#pragma once
#include "lib/sampler.cuh"
#include "product.cuh"

/** The vocabulary as blocks have its rows in the head P: what is looked for lies in those whose best score reaches it. */
template <class P>
struct BlockRows {
  static constexpr int kParts = kBlocks;
  const bool known;
  const uint32_t best;  // key of the best score of block threadIdx.x; 0 beyond the last

  DEVICE uint32_t top(const Divisor& by_temperature) const {
    return best == 0 || best == kStrangeKey ? best : ordered_key(by_temperature(value_of(best)));
  }

  /** body as in Logits.each, for all rows of the blocks whose thread says that they reach. @param blocks a word for each thread */
  template <class Body>
  DEVICE void each(bool reaches, const Logits& logits, int* blocks, Body&& body) const {
    if (!known) return logits.each_fast(body);
    __shared__ int reaching;
    if (threadIdx.x == 0) reaching = 0;
    block_sync();
    if (reaches && int(threadIdx.x) < kBlocks) blocks[atomicAdd(&reaching, 1)] = int(threadIdx.x);
    block_sync();
    constexpr int kTogether = 4, kFours = P::kMostTiles * kRowTile / 4;
    if (2 * reaching > kBlocks) return logits.each_fast(body);  // which is simpler
    const int all = reaching * kFours;
    const bool aligned = reinterpret_cast<size_t>(logits.values) % sizeof(float4) == 0;
    for (int first = int(threadIdx.x); first < all; first += kTogether * kThreads) {
      float4 x[kTogether];
      int ids[kTogether], ends[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const int i = min(first + u * kThreads, all - 1), block = blocks[i / kFours];
        const int id = P::first(block) * kRowTile + i % kFours * 4;
        ids[u] = id, ends[u] = first + u * kThreads < all ? min((P::first(block) + P::tiles(block)) * kRowTile, logits.vocab) : 0;
        if (id >= ends[u]) continue;
        const float* const from = logits.values + id;
        if (aligned)
          x[u] = __ldcg(reinterpret_cast<const float4*>(from));  // rows of logits lie behind each other: what is beyond the vocabulary is not looked at
        else
          x[u] = make_float4(__ldcg(from), id + 1 < ends[u] ? __ldcg(from + 1) : 0, id + 2 < ends[u] ? __ldcg(from + 2) : 0, id + 3 < ends[u] ? __ldcg(from + 3) : 0);
      }
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const float of_four[] = {x[u].x, x[u].y, x[u].z, x[u].w};
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (ids[u] + j < ends[u]) body(ids[u] + j, logits.changed(ids[u] + j, of_four[j]), of_four[j]);
      }
    }
  }
};

/** Words of an exchange that a block publishes what it has in; candidates are before them. */
BOTH constexpr int share_at(int block) { return 2 * kBlocks + 2 * block; }
/** Bits of how many candidates a block lists, in front of its mass: one more than there is room for says that there are more. */
constexpr int kListedBits = 7;
static_assert(kListedOfBlock + 1 < (1 << kListedBits) - 1, "no word is the sentinel");

/**
 * The same by all blocks. Each knows the best score of every block, hence from where on keys may be drawn, lists its own rows that do, and says how
 * many these are and what all its rows weigh; block 0 draws among them.
 */
template <class P, class Exchange>
struct SharedDraw {
  Cta<1>& cta;
  const Exchange& exchange;
  const int step;
  const uint32_t best;  // key of the best score of block threadIdx.x
  const Logits logits;
  Draw draw;
  bool finite;

  DEVICE SharedDraw(Cta<1>& of, const Exchange& to, int at, uint32_t best_of_block)
      : cta(of),
        exchange(to),
        step(at),
        best(best_of_block),
        logits(of.pass.logits + size_t(of.pass.tokens - of.pass.first_logits - 1) * kVocab, of.pass.sampling, of.pass.counts, of.pass.bias),
        draw(of.pass.sampling, logits.vocab, of.position + of.pass.tokens) {
    const uint32_t my_top = rows().top(draw.by_temperature);
    finite = draw.begin(my_top);
    __shared__ int found;
    if (threadIdx.x == 0) found = 0;
    const Reaching reaches(draw.least_listed(my_top, kBlocks, kNear, reinterpret_cast<int*>(cta.s.work.sampler)), cta.pass.sampling.temperature, draw.by_temperature);
    block_sync();
    const int block = cta.index(), first = P::first(block) * kRowTile, end = min(first + P::tiles(block) * kRowTile, logits.vocab);
    uint64_t mass = 0;
    for (int id = first + int(threadIdx.x); id < end; id += kThreads) {
      const float x = logits.changed(id, __ldcg(logits.values + id));
      if (draw.weighs_all()) mass += draw.kept.mass(draw.key(x));
      const uint32_t key = reaches(x);
      if (key == 0) continue;
      const int listed = atomicAdd(&found, 1);
      if (listed < kListedOfBlock) listed_by(block)[listed] = uint64_t(key) << 32 | unsigned(id);
    }
    mass = block_total(mass);
    if (threadIdx.x != 0) return;
    __threadfence();  // what is listed, and the logits, before the words that announce them
    static_assert(P::kMostTiles * kRowTile < 1 << 16, "the mass of a block has 56 bits");
    exchange.publish(step, share_at(block), unsigned(mass) & 0x7fffffffu, unsigned(mass >> 31) << kListedBits | min(found, kListedOfBlock + 1));
  }

  /** What is drawn, by block 0. */
  DEVICE Choice choose(unsigned place) {
    Choice choice;
    choice.strange = !finite;
    CandidateList list(cta.s.work.sampler);
    __shared__ int all;
    if (threadIdx.x == 0) all = 0;
    block_sync();
    uint64_t mass = 0;
    if (const int block = int(threadIdx.x); block < kBlocks) {
      Words<2> share{};
      wait_until(cta.s.flags, place, [&] {
        share = load_words<2>(exchange.of(step), share_at(block));
        return arrived(share);
      });
      __threadfence();
      mass = uint64_t(share.v[1] >> kListedBits) << 31 | share.v[0];
      const int count = int(share.v[1] & ((1u << kListedBits) - 1)), there = count > kListedOfBlock ? 0 : count;
      const int first = atomicAdd(&all, there == count ? count : kCandidates + 1);
      for (int i = 0; i < there && first + i < kCandidates; ++i) {
        const uint64_t one = __ldcg(listed_by(block) + i);
        list.keys[first + i] = uint32_t(one >> 32), list.ids[first + i] = int(uint32_t(one));
      }
    }
    mass = block_total(mass);
    list.n = all;
    if (choice.strange) return choice;
    if (draw.settle(list, draw.weighs_all() ? share_of(cta.pass.sampling.top_p, mass) : 0)) {
      draw.among(list, choice);
      return choice;
    }
    return draw_filtered(cta.s.work.sampler, logits, cta.pass.sampling, cta.position + cta.pass.tokens, rows());
  }

 private:
  DEVICE BlockRows<P> rows() const { return {true, best}; }
  DEVICE uint64_t* listed_by(int block) const { return cta.pass.listed + block * kListedOfBlock; }
};
