// The CUDA host of either scheme, over a stand-in runtime and a stand-in kernel.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check_positions.h"
#include "cpu-check.h"
#include "host/backend.h"
#include "host/errors.h"
#include "host/noise.h"
#include "kernel.h"
#include "runtime.h"

namespace {

constexpr int kContext = 64;
std::string error;

Backend* created(int context = kContext, int device = 0, int sequences = 1) {
  Backend* backend = nullptr;
  EngineOptions options{};
  options.context = context;
  options.device = device;
  options.sequences = sequences;
  error.clear();
  return backend_create(options, &backend, &error) == kStatusOk ? backend : nullptr;
}

bool says(const std::string& text) {
  if (error.find(text) != std::string::npos) return true;
  fprintf(stderr, "'%s' lacks '%s'\n", error.c_str(), text.c_str());
  return false;
}

/** What a check saw go wrong inside a launch. */
bool all_right() {
  if (kernel().wrong) fprintf(stderr, "a launch found this wrong: %s\n", kernel().wrong);
  return kernel().wrong == nullptr;
}

PassRequest request_of(const std::vector<int32_t>& ids, int position, int first_logits, bool sample, const Sampling& sampling) {
  return {ids.empty() ? nullptr : ids.data(), ids.empty() ? 1 : int(ids.size()), position, first_logits, sample, &sampling, 1, nullptr, 0};
}

/** Writes a pattern over all weights, in pieces whose borders are nowhere else. */
void load(Backend* b, Check& check) {
  std::vector<char> weights(kWeightBytes);
  for (int64_t i = 0; i < kWeightBytes; ++i) weights[i] = static_cast<char>(i % 251);
  for (int64_t at = 0; at < kWeightBytes; at += 100'003) {
    const int64_t bytes = std::min<int64_t>(100'003, kWeightBytes - at);
    check.equal(backend_write(b, at, weights.data() + at, bytes, &error), kStatusOk);
    memset(weights.data() + at, 99, bytes);  // copied: no effect
  }
  check.equal(backend_finish_load(b, &error), kStatusOk);
}

void check_create() {
  Check check("what cannot be created says why, and keeps nothing");
  check.that(!created(kContext, 1) && says("GPU 1 was asked for; this machine has 1"));
  kernel().fits = false;
  check.that(!created() && says("stand-in"));
  kernel().fits = true;
  check.that(!created(1 << 30) && says("the model needs ") && says("KV cache for 1073741824 positions ") && says("), 1.00 GiB are free"));
  // However far it comes, a call that fails is named.
  for (int calls = 0;; ++calls) {
    runtime().failing = calls;
    Backend* const backend = created();
    runtime().failing = -1;
    if (backend) {
      check.that(calls > 15);
      backend_destroy(backend);
      break;
    }
    check.that(says(runtime().failed) && says("cudaErrorUnknown"));
    check.equal(runtime().alive, 0);
  }
  backend_destroy(nullptr);
  check.equal(runtime().alive, 0);
}

void check_load(Backend* b) {
  Check check("weights are loaded again and again, and what loading alone needs is given back");
  const int alive = runtime().alive;
  for (int times = 0; times < 2; ++times) {
    load(b, check);
    check.equal(runtime().alive, alive);  // what loading alone needs is given back
  }
}

void check_logits(Backend* b) {
  Check check("a pass finds what it was given, and its logits come back");
  Sampling sampling{};
  sampling.temperature = 0.5f;
  const int32_t occurred[] = {5, 5, 7};
  check.equal(backend_counts(b, 0, occurred, 3, &error), kStatusOk);
  std::vector<int32_t> ids{3, 1, 4};
  check.equal(backend_enqueue(b, request_of(ids, 6, 1, false, sampling), &error), kStatusOk);
  ids[0] = 400;  // copied: no effect
  int32_t token;
  check.equal(backend_wait(b, &token, &error), kStatusOk);
  check.equal(token, -1);
  std::vector<float> logits(size_t{2} * kVocab);
  check.equal(backend_logits(b, 0, 3, logits.data(), &error), kStatusBadArgument);
  check.that(says("rows [0, 3) of logits were asked for; the last pass made 2"));
  check.equal(backend_logits(b, 0, 2, logits.data(), &error), kStatusOk);
  const float expected[] = {1, kInPrompt, kRotatedSize * std::cos(6 * kInvFreq[1]), 0.5f, kContext};
  for (int i = 0; i < 5; ++i) check.near(logits[i], expected[i], 1e-6);
  for (int i = 0; i < 5; ++i) check.equal(logits[5 + i], static_cast<char>(kLooks[i] % 251));
  check.equal(logits[kVocab], 4);
  const float* row = nullptr;
  check.equal(backend_logits_row(b, 2, &row, &error), kStatusBadArgument);
  check.equal(backend_logits_row(b, 1, &row, &error), kStatusOk);
  check.equal(row[0], 4);
  check.that(all_right());
}

/** A prompt and a reply to it with passes in flight; the tokens up to the one that did not run, or that failed. */
std::vector<int32_t> reply(Backend* b, int count, const std::vector<int32_t>& stops = {}, bool stop_soon = false) {
  const Sampling sampling{};
  const std::vector<int32_t> prompt{3, 1, 4, 1, 5}, none;
  int enqueued = 0, waited = 0;
  const auto enqueue = [&] {
    PassRequest request = enqueued == 0 ? request_of(prompt, 0, 4, true, sampling) : request_of(none, 4 + enqueued, 0, true, sampling);
    request.stop_ids = stops.data();
    request.stop_count = int(stops.size());
    if (enqueued > 0) request.steps = std::min(backend_steps(b), count - enqueued);
    if (backend_enqueue(b, request, &error) != kStatusOk) return false;
    enqueued += request.steps;
    return true;
  };
  std::vector<int32_t> tokens;
  error.clear();
  bool good = true;
  while (waited < enqueued || (good && waited < count)) {
    while (good && enqueued < count && enqueued - waited < kMaxOutstanding - 1) good = enqueue();
    if (waited == enqueued) break;
    if (stop_soon && waited == 3) std::thread([&] { backend_stop(b); }).join();
    int32_t token;
    std::string why;
    if (backend_wait(b, &token, &why) != kStatusOk) {
      good = false;
      if (error.empty()) error = why;
    }
    ++waited;
    good = good && token >= 0;
    if (good) tokens.push_back(token);
  }
  return tokens;
}

std::vector<int32_t> expected_reply(int count) {
  std::vector<int32_t> tokens{token_after(14, 5)};
  while (int(tokens.size()) < count) tokens.push_back(token_after(tokens.back(), 5 + int(tokens.size())));
  return tokens;
}

void check_reply(Backend* b) {
  Check check("a reply is the tokens in their order, each fed to the next pass");
  std::vector<float> logits(size_t{2} * kVocab);
  for (const int count : {1, 2, 30}) {
    check.that(reply(b, count) == expected_reply(count));
    check.that(error.empty() && all_right());
    // The last pass is over, not only its token there.
    check.equal(backend_logits(b, 0, 2, logits.data(), &error), kStatusBadArgument);
    check.equal(backend_logits(b, 0, 1, logits.data(), &error), kStatusOk);
    check.equal(logits[0], count == 1 ? 5 : expected_reply(count)[size_t(count) - 2]);
  }
}

void check_kept(Backend* b) {
  Check check("a row of logits stays while the next pass runs");
  check.that(backend_keeps_logits(b));
  const Sampling sampling{};
  const std::vector<int32_t> prompt{3, 1, 4, 1, 5}, none;
  for (int pass = 0; pass < 3; ++pass) {
    PassRequest request = pass == 0 ? request_of(prompt, 0, 4, true, sampling) : request_of(none, 4 + pass, 0, true, sampling);
    request.keep_logits = true;
    check.equal(backend_enqueue(b, request, &error), kStatusOk);
  }
  for (int pass = 0; pass < 3; ++pass) {
    int32_t token;
    const float* row = nullptr;
    check.equal(backend_wait(b, &token, &error), kStatusOk);
    check.equal(token, expected_reply(3)[pass]);
    check.equal(backend_logits_row(b, 1, &row, &error), kStatusBadArgument);
    check.equal(backend_logits_row(b, 0, &row, &error), kStatusOk);
    check.equal(row[0], pass == 0 ? 5 : expected_reply(3)[pass - 1]);
  }
  check.that(all_right());
}

void check_failure(Backend* b) {
  Check check("a launch that lost something says what, and harms none after it");
  kernel().loses = true;
  reply(b, 10);
  check.that(says(kLoss));
  check.that(reply(b, 10) == expected_reply(10));
  check.that(error.empty() && all_right());
  // A call that fails is named, wherever it is.
  for (int calls = 0; calls < 30; ++calls) {
    runtime().failed = nullptr;
    runtime().failing = calls;
    reply(b, 3);
    runtime().failing = -1;
    if (runtime().failed) check.that(says("unknown error (cudaErrorUnknown)"));
    check.that(reply(b, 3) == expected_reply(3));
  }
}

/** The tokens that a check of ids at a position chooses. */
std::vector<int32_t> chosen(Backend* b, const std::vector<int32_t>& ids, int position, const std::function<bool()>& may_choose = nullptr) {
  const Sampling sampling{};
  PassRequest request = request_of(ids, position, 0, true, sampling);
  request.check = true;
  request.may_choose = may_choose;
  error.clear();
  int32_t token = -1;
  if (backend_enqueue(b, request, &error) != kStatusOk || backend_wait(b, &token, &error) != kStatusOk) return {};
  std::vector<int32_t> tokens(kPassTokens);
  tokens.resize(backend_chosen(b, tokens.data()));
  return !tokens.empty() && tokens[0] == token ? tokens : std::vector<int32_t>{};
}

void check_drafts(Backend* b) {
  if (backend_check_tokens(b) == 0) return;
  Check check("drafts are checked up to the first that is wrong, where all see the same tiles of positions");
  check.equal(backend_check_tokens(b), 4);
  const auto after = [](std::vector<int32_t> ids, int position) {
    int sum = 0;
    for (const int id : ids) sum += id;
    return token_after(sum, position + int(ids.size()));
  };
  const int a = after({3}, 17), next = after({3, a}, 17), last = after({3, a, next}, 17);
  using Tokens = std::vector<int32_t>;
  check.that(chosen(b, {3, a, next, last}, 17) == Tokens{a, next, last, after({3, a, next, last}, 17)});
  check.that(chosen(b, {3, a, next + 1, 5}, 17) == Tokens{a, next});
  check.that(chosen(b, {3, a + 1}, 17) == Tokens{a});
  // The next pass is fed with the token that was chosen last.
  const Sampling sampling{};
  const std::vector<int32_t> none;
  int32_t token;
  check.equal(backend_enqueue(b, request_of(none, 18, 0, true, sampling), &error), kStatusOk);
  check.equal(backend_wait(b, &token, &error), kStatusOk);
  check.equal(token, token_after(a, 19));
  int32_t one;
  check.equal(backend_chosen(b, &one), 1);
  check.equal(one, token);
  // Of a tile of 16 positions: none at its begin, the last of it and the one behind at its end.
  const std::vector<int32_t> expected{1, 4, 4, 4, 3, 2, 1, 4};
  const int positions[] = {16, 17, 28, 29, 30, 31, 32, 33};
  for (size_t i = 0; i < expected.size(); ++i) check.equal(backend_check_tokens_at(b, positions[i]), expected[i]);
  check.that(chosen(b, {3, a, next}, 31).empty() && says("drafts are checked 2 tokens at a time from position 31"));
  check.that(all_right());
}

void check_ends(Backend* b) {
  if (backend_steps(b) == 1) return;
  Check check("a launch of several steps ends behind a stop token, and when it is asked to");
  const std::vector<int32_t> all = expected_reply(20);
  check.that(reply(b, 20, {511, all[6]}) == std::vector<int32_t>(all.begin(), all.begin() + 7));
  check.that(error.empty());
  kernel().endless = true;
  check.that(reply(b, 20, {}, true).size() < 20);
  check.equal(kernel().stopped_at, 2);
  kernel().endless = false;
  check.that(reply(b, 20) == all);  // the request to stop is over
  check.that(all_right());
}

/** Launches a pass of rows, of the slots from 1 on. */
int launch_rows(Backend* b, const std::vector<int32_t>& ids, const std::vector<int>& positions, const Sampling& sampling,
                const std::function<bool()>& may_choose = nullptr) {
  std::vector<Row> rows;
  for (size_t i = 0; i < ids.size(); ++i) rows.push_back({int(i) + 1, positions[i], &sampling});
  PassRequest request = request_of(ids, positions[0], 0, true, sampling);
  request.slot = 1;
  request.rows = rows.data();
  request.may_choose = may_choose;
  error.clear();
  return backend_enqueue(b, request, &error);
}

/** The tokens behind the rows of the oldest launch. */
std::vector<int32_t> chosen_of_rows(Backend* b) {
  int32_t token;
  if (backend_wait(b, &token, &error) != kStatusOk) return {};
  std::vector<int32_t> tokens(kPassTokens);
  tokens.resize(backend_chosen(b, tokens.data()));
  return tokens;
}

std::vector<int32_t> chosen_of_rows(Backend* b, const std::vector<int32_t>& ids, const std::vector<int>& positions, const Sampling& sampling) {
  return launch_rows(b, ids, positions, sampling) == kStatusOk ? chosen_of_rows(b) : std::vector<int32_t>{};
}

void check_slots() {
  Check check("sequences have a cache, counts and biases of their own");
  Backend* const b = created(kContext, 0, 5);
  load(b, check);
  const int32_t occurred[] = {5}, biased[] = {9};
  const float bias[] = {2};
  check.equal(backend_counts(b, 3, occurred, 1, &error), kStatusOk);
  check.equal(backend_bias(b, 4, biased, bias, 1, &error), kStatusOk);
  const Sampling sampling{};
  std::vector<float> logits(kVocab);
  for (int slot = 0; slot < 5; ++slot) {
    PassRequest request = request_of({7, 8}, 3, 1, false, sampling);
    request.slot = slot;
    int32_t token;
    check.equal(backend_enqueue(b, request, &error), kStatusOk);
    check.equal(backend_wait(b, &token, &error), kStatusOk);
    check.equal(backend_logits(b, 0, 1, logits.data(), &error), kStatusOk);
    check.equal(logits[1], slot == 3 ? kInPrompt : 0);
    check.equal(logits[10], slot == 4 ? 2 : 0);
    // Each pass leaves a mark at the begin of its cache, and tells how many were there.
    check.equal(logits[11], 0);
  }
  check_positions(b, kContext);
  backend_destroy(b);
  check.equal(runtime().alive, 0);
  check.that(all_right());
}

void check_rows() {
  Backend* const b = created(1 << 10, 0, 16);
  if (backend_rows(b) == 1) return backend_destroy(b);
  Check check("rows are dealt to the blocks of a head without a gap, and each has its token");
  load(b, check);
  check.equal(backend_rows(b), kPassTokens);
  const std::vector<std::vector<int>> all = {{0}, {0, 0}, {5, 700}, {17, 1, 90, 40, 16}, {200, 200, 200, 200}, {1000, 3, 3, 3, 3, 3, 3, 3, 3, 3}, std::vector<int>(15, 300)};
  for (std::vector<int> positions : all) {
    positions.resize(std::min<size_t>(positions.size(), kPassTokens));
    std::vector<int32_t> ids, expected;
    for (size_t i = 0; i < positions.size(); ++i) {
      ids.push_back(int(3 * i + 1));
      expected.push_back(token_after(ids.back(), positions[i] + 1));
    }
    const Sampling sampling{};
    check.that(chosen_of_rows(b, ids, positions, sampling) == expected);
    check.that(error.empty() && all_right());
  }
  // Launches behind one whose tokens nobody has seen: of rows, and of one of them alone.
  const std::vector<int32_t> first{token_after(1, 6), token_after(2, 7)};
  check.equal(launch_rows(b, {1, 2}, {5, 6}, Sampling{}), kStatusOk);
  check.equal(launch_rows(b, {kLastChosen, kLastChosen, 9}, {6, 7, 3}, Sampling{}), kStatusOk);
  const Sampling greedy{};
  PassRequest alone = request_of({}, 8, 0, true, greedy);
  alone.slot = 2;
  check.equal(backend_enqueue(b, alone, &error), kStatusOk);
  check.that(chosen_of_rows(b) == first);
  const std::vector<int32_t> second{token_after(first[0], 7), token_after(first[1], 8), token_after(9, 4)};
  check.that(chosen_of_rows(b) == second);
  int32_t last;
  check.equal(backend_wait(b, &last, &error), kStatusOk);
  check.equal(last, token_after(second[1], 9));
  check.that(error.empty() && all_right());
  // A launch that lost something fails for all its rows, and harms none after it.
  kernel().loses = true;
  check.that(chosen_of_rows(b, {1, 2}, {3, 4}, Sampling{}).empty() && says(kLoss));
  check.equal(chosen_of_rows(b, {1, 2}, {3, 4}, Sampling{}).size(), 2);
  backend_destroy(b);
  check.that(all_right());
}

/** Words of a mask of these tokens. */
std::vector<uint32_t> mask_of(const std::vector<int>& tokens) {
  std::vector<uint32_t> words((kVocab + 31) / 32);
  for (const int token : tokens) words[token / 32] |= 1u << token % 32;
  return words;
}

void check_masks() {
  Backend* const b = created(1 << 10, 0, 16);
  if (!backend_asks(b)) return backend_destroy(b);
  Check check("a pass is chosen from once its logits are there and it may be, by the masks that came meanwhile");
  load(b, check);
  const auto masked = [&](int slot, const std::vector<int>& tokens, int row = 0) {
    return backend_mask(b, slot, row, mask_of(tokens).data(), kVocab, &error) == kStatusOk;
  };
  const Sampling sampling{};
  const auto after = [&](const std::vector<int32_t>& ids, const std::function<bool()>& may_choose) {
    PassRequest request = request_of(ids, 4, int(ids.size()) - 1, true, sampling);
    request.may_choose = may_choose;
    error.clear();
    int32_t token = -1;
    if (backend_enqueue(b, request, &error) == kStatusOk) backend_wait(b, &token, &error);
    return token;
  };
  const int32_t one = token_after(3, 5), several = token_after(3 + 4, 6);
  int asked = 0;
  for (const auto& [ids, free] : {std::pair{std::vector<int32_t>{3}, one}, {std::vector<int32_t>{3, 4}, several}}) {
    check.equal(after(ids, [&] { return ++asked, true; }), free);
    check.equal(after(ids, [&] { return masked(0, {21, 400}); }), 21);
    check.equal(after(ids, [&] { return backend_mask(b, 0, 0, nullptr, kVocab, &error) == kStatusOk; }), free);
    // What is not to be chosen, or cannot be, harms nothing behind it.
    check.equal(after(ids, [] { return false; }), kAbandoned);
    check.equal(backend_chosen(b, &asked), 0);
    check.equal(after(ids, []() -> bool { throw Failure{kStatusInternal, "no mask"}; }), -1);
    check.that(says("no mask"));
    kernel().loses = true;
    check.equal(after(ids, []() -> bool { throw Failure{kStatusInternal, "no mask"}; }), -1);
    check.that(says(kLoss));
    check.equal(after(ids, [] { return true; }), free);
    check.that(error.empty() && all_right());
  }
  const std::vector<int32_t> rows{token_after(1, 6), 30, token_after(9, 4)};
  check.equal(launch_rows(b, {1, 2, 9}, {5, 6, 3}, sampling, [&] { return masked(2, {30, 31}); }), kStatusOk);
  check.that(chosen_of_rows(b) == rows);
  check.equal(launch_rows(b, {1, 2}, {5, 6}, sampling, [] { return false; }), kStatusOk);
  check.that(chosen_of_rows(b).empty() && error.empty());
  // Behind each draft its own mask says what may be chosen.
  using Tokens = std::vector<int32_t>;
  const auto checked = [&](const Tokens& ids, const std::function<bool()>& may_choose) { return chosen(b, ids, 17, may_choose); };
  const int next = token_after(3 + 21, 19);
  check.that(checked({3, 21, next, 8}, [&] { return masked(0, {21}); }) == Tokens{21, next, token_after(3 + 21 + next, 20)});
  check.that(checked({3, 21, 30, 48}, [&] { return masked(0, {21}) && masked(0, {30, 31}, 1) && masked(0, {48, 49}, 2); }) ==
             Tokens{21, 30, 48, token_after(3 + 21 + 30 + 48, 21)});
  check.that(checked({3, 21}, [] { return false; }).empty() && error.empty());
  backend_destroy(b);
  check.that(all_right());
}

}  // namespace

int main() {
  check_create();
  setenv("ONELAUNCH_WAIT_MS", "300", 1);
  setenv("ONELAUNCH_POLL_CYCLES", "11,0,13", 1);
  Backend* const backend = created();
  unsetenv("ONELAUNCH_WAIT_MS");  // read once: no effect
  setenv("ONELAUNCH_POLL_CYCLES", "99", 1);
  if (!backend) return fprintf(stderr, "%s\n", error.c_str()), 1;
  printf("{\"device\": \"%s\"}\n", backend_device(backend).c_str());
  check_load(backend);
  check_logits(backend);
  check_reply(backend);
  check_kept(backend);
  check_failure(backend);
  check_ends(backend);
  check_drafts(backend);
  backend_destroy(backend);
  setenv("ONELAUNCH_WAIT_MS", "300", 1);
  setenv("ONELAUNCH_POLL_CYCLES", "11,0,13", 1);
  check_slots();
  check_rows();
  check_masks();
  check_scheme();
  Check("everything is given back").equal(runtime().alive, 0);
}
