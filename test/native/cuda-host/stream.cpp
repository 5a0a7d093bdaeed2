// The stand-in of a kernel of a stream.
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "cpu-check.h"
#include "host/shares.h"
#include "host/stream_calls.h"
#include "kernel.h"
#include "runtime.h"

Kernel& kernel() {
  static Kernel instance;
  return instance;
}

const char* const kLoss = "block 2 waited too long for its weights in stage qkv of layer 1";

static std::vector<char> packed(kWeightBytes - kKeptBytes);

char weight_at(const Pass& pass, int64_t offset) {
  return offset < kKeptBytes ? pass.weights[offset] : packed[static_cast<size_t>(offset - kKeptBytes)];
}

cudaError_t kernel_blocks(int, int* blocks) {
  *blocks = kernel().fits ? kBlocks : 0;
  return cudaSuccess;
}

int64_t kernel_word_bytes(int tokens) { return 4 * tokens; }

cudaError_t kernel_pack(const char* matrices, char* to, int layer, cudaStream_t stream) {
  on_stream(stream, [=] {
    to[layer] = static_cast<char>(1 + layer);
    std::copy_n(matrices, kStagedLayerBytes, packed.begin() + layer * kStagedLayerBytes);
  });
  return cudaSuccess;
}

cudaError_t kernel_pack_head(const char* rows, char* to, int first, int count, cudaStream_t stream) {
  on_stream(stream, [=] {
    if (first % kRowTile != 0 || first + count > kVocab) kernel().wrong = "rows of the head";
    if (first + count == kVocab) to[kLayers] = 1 + kLayers;
    if (kStagedHeadBytes > 0) std::copy_n(rows, count * kHeadRowBytes, packed.begin() + kLayers * kStagedLayerBytes + first * kHeadRowBytes);
  });
  return cudaSuccess;
}

/** The token that a row of logits has, or the first behind those that say what a launch was given that the row's mask allows. */
static int token_of(const Pass& pass, const RowMasks& masks, int row) {
  const auto allows = [&](int id) { return !masks.words[row] || id >= masks.vocab[row] || (masks.words[row][id / 32] >> id % 32 & 1) != 0; };
  int token = static_cast<int>(pass.logits[int64_t{row} * kVocab + kTokenAt]);
  if (allows(token)) return token;
  for (token = kGiven; !allows(token);) ++token;
  return token;
}

/** Behind the last token of a pass, behind each row, or behind each token up to the first that is not the draft behind it. */
static void choose(const Pass& pass, const RowMasks& masks) {
  if (pass.status[0] != 0) return;
  std::this_thread::sleep_for(std::chrono::milliseconds(1));  // whoever does not wait for it sees no token
  for (int i = 0; i < (pass.batch || pass.check ? pass.tokens : 1); ++i) {
    const int slot = pass.batch ? pass.rows[i].slot : 0;
    if (pass.reply[i] != 0) kernel().wrong = "a reply that is there before it is chosen";
    if (pass.batch ? pass.rows[i].bias : pass.bias) kernel().wrong = "a bias of another reply";
    const int token = token_of(pass, masks, i);
    pass.next[slot] = token;
    pass.counts[int64_t{slot} * kVocab + token] += kChosenOnce;
    static_cast<volatile unsigned*>(pass.reply)[i] = unsigned(token) + 1;
    if (pass.check && i + 1 < pass.tokens && token != pass.ids[i + 1]) return;
  }
}

cudaError_t kernel_choose(const Pass& pass, const RowMasks& masks, float* masked, cudaStream_t stream) {
  if (!masked && std::any_of(masks.words, masks.words + kPassTokens, [](const unsigned* words) { return words != nullptr; })) {
    kernel().wrong = "masks without room for what they leave";
  }
  if (!pass.sample || pass.steps != 1 || !pass.keep_logits) kernel().wrong = "a choice behind a launch";
  on_stream(stream, [pass, masks] { choose(pass, masks); });
  return cudaSuccess;
}

static bool ends_behind(const Pass& pass, int token) {
  for (int i = 0; i < pass.stop_count; ++i) {
    if (pass.stop_ids[i] == token) return true;
  }
  return *static_cast<const volatile unsigned*>(pass.stop_request) != 0;
}

/** The token after each, up to the first that is not the draft behind it. */
static void check_drafts(const Pass& pass) {
  if (pass.tokens > kCheckTokens || pass.first_logits != 0 || !pass.head || pass.steps != 1) kernel().wrong = "a check";
  for (int i = 0; i < pass.tokens; ++i) {
    if (pass.reply[i] != 0) kernel().wrong = "a reply that is there before it is made";
  }
  for (int i = 0, before = 0; i < pass.tokens; ++i) {
    before += pass.ids[i];
    const int token = token_after(before, pass.position + i + 1);
    if (pass.keep_logits) pass.logits[int64_t{i} * kVocab + kTokenAt] = static_cast<float>(token);
    if (!pass.sample) continue;
    *pass.next = token;
    static_cast<volatile unsigned*>(pass.reply)[i] = unsigned(*pass.next) + 1;
    if (i + 1 < pass.tokens && *pass.next != pass.ids[i + 1]) break;
  }
}

/** That the shares of rows are what their blocks find. */
static bool well_dealt(const Pass& pass) {
  const BatchShares& to = pass.shares;
  if (to.cuts[0] != 0 || to.cuts[kSplits] != to.items[pass.tokens]) return false;
  for (int row = 0; row < pass.tokens; ++row) {
    const BatchRow& of = pass.rows[row];
    if (to.items[row + 1] - to.items[row] != (of.position + kKvTile - 1) / kKvTile + 1 || of.shares > to.most) return false;
    int found = 0, items = 0;
    for (int share = 0; share < kSplits; ++share) {
      const int begin = std::max(to.cuts[share], to.items[row]), end = std::min(to.cuts[share + 1], to.items[row + 1]);
      const bool has = row >= to.rows[share] && begin < end;
      if (begin < end && !has) return false;
      if (has != (share >= of.share && share < of.share + of.shares)) return false;
      found += has, items += has ? end - begin : 0;
      // A block begins with its first row, or has none.
      if (to.cuts[share] == to.cuts[share + 1] && to.rows[share] < pass.tokens) return false;
    }
    if (found != of.shares || items != to.items[row + 1] - to.items[row]) return false;
  }
  return true;
}

/** The token behind each row. */
static void decode_rows(const Pass& pass) {
  if (!well_dealt(pass)) kernel().wrong = "shares";
  for (int i = 0; i < pass.tokens; ++i) {
    const BatchRow& row = pass.rows[i];
    if (row.slot != i + 1 || pass.reply[i] != 0) kernel().wrong = "a row";
    const int token = token_after(row.id < 0 ? pass.next[row.slot] : row.id, row.position + 1);
    if (pass.keep_logits) pass.logits[int64_t{i} * kVocab + kTokenAt] = static_cast<float>(token);
    if (!pass.sample) continue;
    pass.next[row.slot] = token;
    pass.counts[int64_t{row.slot} * kVocab + token] += kChosenOnce;
    static_cast<volatile unsigned*>(pass.reply)[i] = unsigned(token) + 1;
  }
}

static void decode(const Pass& pass) {
  for (int i = 0; i < pass.tokens; ++i) {
    if (pass.words[i] != ~0u) kernel().wrong = "words of another launch";
    pass.words[i] = 0;
  }
  if (pass.stream[kLayers] != 1 + kLayers) kernel().wrong = "the head was not packed";
  if (pass.head != (pass.sample || pass.first_logits < pass.tokens)) kernel().wrong = "head";
  if (pass.timeout_ns != 300'000'000) kernel().wrong = "timeout";
  if (pass.delays[0] != 11 || pass.delays[2] != 13 || pass.delays[3] != kDelays[3]) kernel().wrong = "delays";
  if (kernel().loses) pass.status[0] = 3, pass.status[1] = 1u << 24 | 1u << 8 | 1u;
  kernel().loses = false;
  std::copy_n(pass.status, 2, pass.failure);
  const int* ids = pass.ids;
  if (pass.check) return check_drafts(pass);
  if (pass.batch) return pass.status[0] == 0 ? decode_rows(pass) : void();
  for (int step = 0; step < pass.steps; ++step) {
    if (pass.status[0] != 0) return;
    const int token = run_pass(pass, ids, pass.tokens, pass.position + step);
    if (!pass.sample) return;
    *pass.next = token;
    *static_cast<volatile unsigned*>(pass.reply + step) = unsigned(token) + 1;
    ids = pass.next;
    kernel().stopped_at = step;
    const volatile unsigned* const stop = pass.stop_request;
    while (kernel().endless && pass.steps > 1 && step == 2 && *stop == 0) continue;
    if (ends_behind(pass, token)) break;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a launch ends after its last token
}

cudaError_t kernel_launch(const Pass& pass, int blocks, cudaStream_t stream) {
  if (blocks != kBlocks) kernel().wrong = "blocks";
  on_stream(stream, [pass] { decode(pass); });
  return cudaSuccess;
}

/** Deals rows at these positions; the most blocks that a row has. */
static int most_shares(Check& check, const std::vector<int>& positions) {
  static Pass pass;
  pass.tokens = static_cast<int>(positions.size());
  for (int row = 0; row < pass.tokens; ++row) pass.rows[row].position = positions[static_cast<size_t>(row)];
  deal_rows(pass);
  check.that(well_dealt(pass));
  const Dealing dealing(pass.shares.items, pass.tokens);
  Cuts cuts;
  std::copy(std::begin(pass.shares.cuts), std::end(pass.shares.cuts), cuts.begin());
  check.that(dealing.cost(cuts) <= dealing.cost(dealing.of_line()));
  for (const bool shared : {true, false}) check.that(pass.tokens > kSplits || dealing.cost(cuts) <= dealing.cost(dealing.of_rows(shared)));
  return pass.shares.most;
}

void check_scheme() {
  Check check("rows are whole where their lengths are near, and a long one is shared");
  unsigned random = 1;
  for (int i = 0; i < 3000; ++i) {
    const auto next = [&](int most) { return int((random = random * 1664525 + 1013904223) >> 8) % most; };
    std::vector<int> positions(static_cast<size_t>(1 + next(kPassTokens)));
    const int most = 1 << (1 + next(14));
    for (int& position : positions) position = next(8) == 0 ? next(1 << 14) : next(most);
    most_shares(check, positions);
  }
  const std::vector<int> short_ones(size_t(std::min(kSplits, kPassTokens)), 100);
  check.equal(most_shares(check, short_ones), 1);
  std::vector<int> with_long = short_ones;
  with_long[with_long.size() / 2] = 10'000;
  check.that(most_shares(check, with_long) > 1);
}
