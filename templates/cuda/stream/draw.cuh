// A draw of which top_k, top_p or min_p leave some: by all blocks, each of which knows its own rows of the head.
#pragma once
#include "lib/sampler.cuh"
#include "product.cuh"

/** The vocabulary as blocks have its rows in the head P: what is looked for lies in those whose best score reaches it. */
template <class P>
struct BlockRows {
  const uint32_t best;  // key of the best score of block threadIdx.x; 0 beyond the last

  DEVICE uint32_t top(const Divisor& by_temperature) const {
    return best == 0 || best == kStrangeKey ? best : ordered_key(by_temperature(value_of(best)));
  }

  /** body as in Logits.each, for all rows of the blocks whose thread says that they reach. @param blocks a word for each thread */
  template <class Body>
  DEVICE void each(bool reaches, const Logits& logits, int* blocks, Body&& body) const {
    __shared__ int reaching;
    if (threadIdx.x == 0) reaching = 0;
    block_sync();
    if (reaches && int(threadIdx.x) < kBlocks) blocks[atomicAdd(&reaching, 1)] = int(threadIdx.x);
    block_sync();
    constexpr int kTogether = 4, kFours = P::kMostTiles * kRowTile / 4;
    if (2 * reaching > kBlocks) return logits.each_fast(body);  // which is simpler
    struct Four {
      int id, end;  // behind the block's last row
      float x[4];
    };
    const int all = reaching * kFours;
    const bool aligned = reinterpret_cast<size_t>(logits.values) % sizeof(float4) == 0;
    for (int first = int(threadIdx.x); first < all; first += kTogether * kThreads) {
      Four fours[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        Four& four = fours[u];
        const int i = min(first + u * kThreads, all - 1), block = blocks[i / kFours];
        four.id = P::first(block) * kRowTile + i % kFours * 4;
        four.end = first + u * kThreads < all ? min((P::first(block) + P::tiles(block)) * kRowTile, logits.vocab) : 0;
        if (four.id >= four.end) continue;
        const float* const from = logits.values + four.id;
        const int left = four.end - four.id;
        if (aligned) {  // rows of logits lie behind each other: what is beyond the vocabulary is not looked at
          const float4 x = __ldcg(reinterpret_cast<const float4*>(from));
          four.x[0] = x.x, four.x[1] = x.y, four.x[2] = x.z, four.x[3] = x.w;
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) four.x[j] = j < left ? __ldcg(from + j) : 0;
        }
      }
      one_by_one(fours, [&](int, const Four& four) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (four.id + j < four.end) body(four.id + j, logits.changed(four.id + j, four.x[j]), four.x[j]);
      });
    }
  }
};

/** A draw of which several blocks have a part each: they list what may be drawn of it, and one draws among all that is listed. */
template <class P>
struct PartedDraw {
  const BlockRows<P> rows;
  const Logits logits;
  Draw draw;
  uint32_t my_top;
  bool finite;
  uint64_t share = 0;  // of the mass that is kept, where the draw weighs all

  /** What a block has found in its part. */
  struct Part {
    int listed;
    uint64_t mass;  // of all of it, where the draw weighs all
  };

  /** @param best key of the best score of block threadIdx.x  @param at the position of the token that is chosen */
  DEVICE PartedDraw(uint32_t best, const Logits& of, const Sampling& s, int at) : rows{best}, logits(of), draw(s, of.vocab, at) {
    my_top = rows.top(draw.by_temperature);
    finite = draw.begin(my_top);
  }

  DEVICE bool weighs_all() const { return draw.weighs_all(); }

  /** put(i, key, id) for the ids [first, end) that may be drawn, i from 0 on; a thread reads kTogether logits at once. @param words one for each thread */
  template <int kTogether, class Put>
  DEVICE Part list(int first, int end, int* words, Put&& put) {
    __shared__ int found;
    if (threadIdx.x == 0) found = 0;
    const Reaching reaches(draw.least_listed(my_top, kBlocks, words), draw.s.temperature, draw.by_temperature);
    block_sync();
    uint64_t mass = 0;
    for (int base = first + int(threadIdx.x); base < end; base += kTogether * kThreads) {
      float x[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u)
        if (base + u * kThreads < end) x[u] = __ldcg(logits.values + base + u * kThreads);
      one_by_one(x, [&](int u, float value) {
        const int id = base + u * kThreads;
        if (id >= end) return;
        const float changed = logits.changed(id, value);
        if (weighs_all()) mass += draw.kept.mass(draw.key(changed));
        if (const uint32_t key = reaches(changed)) put(atomicAdd(&found, 1), key, id);
      });
    }
    if (weighs_all()) mass = total_in_draw(mass);
    block_sync();
    return {found, mass};
  }

  /** Whether all that may be drawn is listed. @param mass of all logits, where the draw weighs all */
  DEVICE bool settle(const CandidateList& list, uint64_t mass) {
    share = weighs_all() ? share_of(draw.s.top_p, mass) : 0;
    return !finite || draw.settle(list, share);
  }

  /** What is drawn. @param settled what settle says */
  DEVICE Choice choose(const CandidateList& list, bool settled) const {
    Choice choice;
    choice.strange = !finite;
    if (choice.strange) return choice;
    return settled ? draw.among(list) : DrawAmongAll<BlockRows<P>>{draw, my_top, rows, logits, list.threads}.choose(share);
  }
};

/** A candidate as blocks hand it on. */
DEVICE uint64_t candidate_of(uint32_t key, int id) { return uint64_t(key) << 32 | unsigned(id); }

/** Candidates that a block announces its share with; others are in memory. */
constexpr int kAnnounced = 3;
/** Words of an exchange in which a block announces its share: how many it lists and their mass, and the first of them. Best scores are before them. */
BOTH constexpr int share_at(int block) { return 4 * divide_up(kBlocks, 2) + (2 + 2 * kAnnounced) * block; }
/** Bits of how many candidates a block lists, in front of its mass: one more than there is room for says that there are more. */
constexpr int kListedBits = 7;
static_assert(kListedOfBlock + 1 < (1 << kListedBits) - 1, "no word is the sentinel");

/**
 * The same by all blocks of a pass. Each knows the best score of every block, hence from where on keys may be drawn, lists its own rows that do, and
 * announces them and what all its rows weigh. All draw among what is announced, where that is enough.
 */
template <class P, class Exchange>
struct SharedDraw {
  Cta<1>& cta;
  const Exchange& exchange;
  const int step;
  PartedDraw<P> draw;
  CandidateList list;
  bool settled = false;

  DEVICE SharedDraw(Cta<1>& of, const Exchange& to, int at, uint32_t best_of_block)
      : cta(of),
        exchange(to),
        step(at),
        draw(best_of_block,
             Logits(of.pass.logits + size_t(of.pass.tokens - of.pass.first_logits - 1) * kVocab, of.pass.sampling, of.pass.counts, of.pass.bias),
             of.pass.sampling, of.position + of.pass.tokens),
        list(of.s.work.sampler) {}

  /** Announces what this block has. */
  DEVICE void announce() {
    __shared__ uint64_t first[kAnnounced];
    if (threadIdx.x < kAnnounced) first[threadIdx.x] = 0;
    const int block = cta.index(), begin = P::first(block) * kRowTile, end = min(begin + P::tiles(block) * kRowTile, draw.logits.vocab);
    const auto part = draw.template list<4>(begin, end, list.threads, [&](int i, uint32_t key, int id) {
      if (i < kAnnounced) first[i] = candidate_of(key, id);
      else if (i < kListedOfBlock) listed_by(block)[i] = candidate_of(key, id);
    });
    if (threadIdx.x != 0) return;
    if (part.listed > kAnnounced) __threadfence();
    static_assert(P::kMostTiles * kRowTile < 1 << 16, "the mass of a block has 56 bits");
    const int to = share_at(block);
    exchange.publish(step, to, unsigned(part.mass) & 0x7fffffffu, unsigned(part.mass >> 31) << kListedBits | min(part.listed, kListedOfBlock + 1));
    for (int i = 0; i < kAnnounced; ++i) exchange.publish(step, to + 2 + 2 * i, uint32_t(first[i] >> 32), uint32_t(first[i]));
  }

  /** Lists what all blocks announce; says whether it is enough. */
  DEVICE bool gather(unsigned place) {
    __shared__ int all;
    if (threadIdx.x == 0) all = 0;
    block_sync();
    uint64_t mass = 0;
    if (const int block = int(threadIdx.x); block < kBlocks) {
      static_assert(kAnnounced == 3, "as is loaded here");
      Words<4> head{}, tail{};
      wait_until(cta.s.flags, place, [&] {
        head = load_words<4>(exchange.of(step), share_at(block)), tail = load_words<4>(exchange.of(step), share_at(block) + 4);
        return arrived(head) && arrived(tail);
      });
      mass = uint64_t(head.v[1] >> kListedBits) << 31 | head.v[0];
      const int count = int(head.v[1] & ((1u << kListedBits) - 1)), there = count > kListedOfBlock ? 0 : count;
      const int first = atomicAdd(&all, there == count ? count : kCandidates + 1), room = min(there, kCandidates - first);
      if (room > 0) list.put(first, candidate_of(head.v[2], int(head.v[3])));
      if (room > 1) list.put(first + 1, candidate_of(tail.v[0], int(tail.v[1])));
      if (room > 2) list.put(first + 2, candidate_of(tail.v[2], int(tail.v[3])));
      if (room > kAnnounced) __threadfence();
      for (int i = kAnnounced; i < room; ++i) list.put(first + i, __ldcg(listed_by(block) + i));
    }
    if (draw.weighs_all()) mass = total_in_draw(mass);
    block_sync();
    list.n = all;
    settled = draw.settle(list, mass);
    if (!settled) __threadfence();  // all logits are read, of every block
    return settled;
  }

  /** What is drawn; where what is announced is not enough, by block 0. */
  DEVICE Choice choose() const { return draw.choose(list, settled); }

 private:
  DEVICE uint64_t* listed_by(int block) const { return cta.pass.listed + block * kListedOfBlock; }
};
