// The CPU backend with kernels that only write down what they were given.
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "check_positions.h"
#include "cpu-check.h"
#include "host/backend.h"
#include "host/noise.h"
#include "host/model_facts.h"
#include "lib/entry.h"
#include "lib/team.h"
#include "lib/team_size.h"

constexpr int kVocab = 50, kHeadDim = 4;
constexpr int64_t kCacheHeads = 60000, kPositionBytes = 2 * kHeadDim * 2;  // keys and values of 16 bits
constexpr float kInvFreq[] = {1.0f, 0.5f};
constexpr int kRotatedPairs = 2;
constexpr float kRotatedSize = 1.5f;
extern const ModelFacts kModel{kVocab, 8, 1000, "", nullptr, 0};

static int runs_of[5];
static bool others_are_late = false;

/** Logits row i := the pass's token i; the next token: the sum of the pass's ids, or of those up to each draft; every block adds itself to x. */
static void record(int isa, const Call& pass, Block& b) {
  if (b.index() == 0) ++runs_of[isa];
  if (b.index() != 0 && others_are_late) usleep(5000);
  for (int turn = 0; turn < 20; ++turn) {
    grid_barrier(b);
    __atomic_fetch_add(reinterpret_cast<int*>(pass.activations), 1, __ATOMIC_RELAXED);
  }
  grid_barrier(b);
  const bool chooses = may_choose(b);
  if (b.index() != 0) return;
  int sum = 0;
  for (int i = 0; i < pass.tokens; ++i) {
    sum += pass.ids[i];
    if (i >= pass.first_logits) pass.logits[(i - pass.first_logits) * kVocab] = static_cast<float>(pass.ids[i]);
  }
  pass.logits[1] = pass.counts[5];
  pass.logits[2] = static_cast<float>(*reinterpret_cast<int*>(pass.activations));
  pass.logits[3] = pass.rope[pass.position * kHeadDim + 2];  // cos of frequency 1
  pass.logits[4] = pass.weights[10];
  pass.logits[5] = pass.sampling.temperature;
  *reinterpret_cast<int*>(pass.activations) = 0;
  if (!pass.sample || !chooses) return;
  const int drafts = b.team->draft_count;
  for (int row = 0; row < drafts; ++row) sum -= b.team->drafts[row];
  for (int row = 0; row <= drafts; ++row) {
    const Choice& by = b.team->choices[row];
    pass.next[row] = sum % kVocab;
    const uint32_t next = pass.next[row];
    if ((by.bias && by.bias[next] < 0) || (by.mask && (by.mask[next / 32] >> next % 32 & 1) == 0)) ++pass.next[row];
    if (row == drafts || pass.next[row] != b.team->drafts[row]) return;
    sum += b.team->drafts[row];
  }
}

template <int Isa> void record_of(const Call& pass, Block& b) { record(Isa, pass, b); }
template <int Isa> constexpr Kernel kKernel = {record_of<Isa>, kCacheHeads, kPositionBytes, 256, 64 * sizeof(float), kInvFreq, kHeadDim, 1, kRotatedPairs, kRotatedSize};
extern "C" {
extern const Kernel kernel_plain = kKernel<1>, kernel_avx2 = kKernel<2>, kernel_avx512 = kKernel<3>, kernel_avx512bf16 = kKernel<4>;
}

static EngineOptions options(int threads, int context, int isa) {
  EngineOptions given{};
  given.threads = threads;
  given.context = context;
  given.isa = isa;
  given.sequences = 1;
  return given;
}

static bool says(const std::string& text, std::vector<const char*> parts) {
  for (const char* part : parts) {
    if (text.find(part) != std::string::npos) continue;
    fprintf(stderr, "'%s' lacks '%s'\n", text.c_str(), part);
    return false;
  }
  return true;
}

static void check_create() {
  Check check("what cannot be created says why");
  std::string error;
  Backend* backend;
  check.equal(backend_create(options(1, 0, 1), &backend, &error), kStatusBadArgument);
  check.that(says(error, {"context", "0"}) && !backend);
  check.equal(backend_create(options(-1, 8, 1), &backend, &error), kStatusBadArgument);
  check.that(says(error, {"threads", "-1"}));
  check.equal(backend_create(options(1, 8, 9), &backend, &error), kStatusBadArgument);
  check.that(says(error, {"9", "plain C++ (1)"}));
  check.equal(backend_create(options(1, 2147483647, 1), &backend, &error), kStatusOutOfMemory);
  check.that(says(error, {"KV cache of 2147483647 positions", "2061584301.1 MB", "weights"}) && !backend);
  bool here[5] = {true, true, false, false, false};
#if defined(__x86_64__)
  here[2] = __builtin_cpu_supports("avx2");
  here[3] = __builtin_cpu_supports("avx512bw");
  here[4] = __builtin_cpu_supports("avx512bf16");
#endif
  for (int isa = 1; isa <= 4; ++isa) {
    const int status = backend_create(options(1, 8, isa), &backend, &error);
    check.equal(status == kStatusOk, here[isa]);
    if (status == kStatusOk) {
      check.that(says(backend_device(backend), {"CPU, ", ", 1 thread"}));
    } else {
      check.equal(status, kStatusBadArgument);
      check.that(says(error, {"plain C++ (1)"}));
    }
    backend_destroy(backend);
  }
  check.equal(backend_create(options(0, 8, 0), &backend, &error), kStatusOk);
  printf("{\"device\": \"%s\"}\n", backend_device(backend).c_str());
  backend_destroy(backend);
  backend_destroy(nullptr);
}

/** A request of one step. */
static PassRequest one_step(const int32_t* ids, int count, int position, int first_logits, const Sampling* sampling) {
  return {ids, count, position, first_logits, first_logits < count, sampling, 1, nullptr, 0};
}

static void check_passes(int threads) {
  Check check("passes run in order");
  std::string error;
  Backend* backend;
  check.equal(backend_create(options(threads, 20, 1), &backend, &error), kStatusOk);
  Sampling sampling{};
  sampling.temperature = 0.5f;
  const char data[] = {1, 2, 3};
  check.equal(backend_write(backend, 9, data, 3, &error), kStatusOk);
  check.equal(backend_write(backend, 998, data, 3, &error), kStatusBadArgument);
  check.equal(backend_finish_load(backend, &error), kStatusOk);
  check.equal(static_cast<char*>(backend_map(backend, 11))[0], 3);
  const int32_t occurred[] = {5, 5, 7};
  check.equal(backend_counts(backend, 0, occurred, 3, &error), kStatusOk);

  int32_t token, ids[] = {1, 2, 3, 40};
  check.equal(backend_steps(backend), 1);
  check.equal(backend_prompt_tokens(backend), 0);
  check.equal(backend_wait(backend, &token, &error), kStatusInternal);
  check.equal(backend_enqueue(backend, one_step(ids, 4, 0, 4, &sampling), &error), kStatusOk);
  ids[0] = 49;  // copied: no effect
  check.equal(backend_enqueue(backend, one_step(ids + 1, 2, 4, 1, &sampling), &error), kStatusOk);
  check.equal(backend_enqueue(backend, one_step(nullptr, 1, 6, 0, &sampling), &error), kStatusOk);
  check.equal(backend_enqueue(backend, one_step(nullptr, 1, 7, 0, &sampling), &error), kStatusOk);
  check.equal(backend_enqueue(backend, one_step(nullptr, 1, 8, 0, &sampling), &error), kStatusBusy);
  check.equal(backend_wait(backend, &token, &error), kStatusOk);
  check.equal(token, -1);
  check.equal(backend_wait(backend, &token, &error), kStatusOk);
  check.equal(token, 5);
  std::vector<float> logits(kVocab * 8);
  check.equal(backend_logits(backend, 0, 2, logits.data(), &error), kStatusBadArgument);
  check.equal(backend_logits(backend, 0, 1, logits.data(), &error), kStatusOk);
  check.equal(logits[0], 3);
  check.equal(logits[1], kInPrompt);     // token 5, before this one was counted
  check.equal(logits[2], 20 * threads);  // every block ran
  check.near(logits[3], kRotatedSize * std::cos(2.0), 1e-6);
  check.equal(logits[4], 2);
  check.equal(logits[5], 0.5);
  check.equal(backend_wait(backend, &token, &error), kStatusOk);
  check.equal(token, 5);  // the token sampled before, alone
  const float* row = nullptr;
  check.equal(backend_logits_row(backend, 1, &row, &error), kStatusBadArgument);
  check.equal(backend_logits_row(backend, 0, &row, &error), kStatusOk);
  check.equal(row[1], 3);  // and counted
  check.equal(backend_wait(backend, &token, &error), kStatusOk);

  check.equal(backend_enqueue(backend, one_step(ids, 4, 17, 4, &sampling), &error), kStatusCapacity);
  check.that(says(error, {"[17, 21)", "20"}));
  check.equal(backend_enqueue(backend, one_step(ids, 9, 0, 9, &sampling), &error), kStatusBadArgument);
  const int32_t outside[] = {50};
  check.equal(backend_enqueue(backend, one_step(outside, 1, 0, 1, &sampling), &error), kStatusBadArgument);
  check.equal(backend_counts(backend, 0, outside, 1, &error), kStatusBadArgument);
  for (int i = 0; i < 200; ++i) {
    check.equal(backend_enqueue(backend, one_step(ids + 1, 1, 0, 0, &sampling), &error), kStatusOk);
    check.equal(backend_wait(backend, &token, &error), kStatusOk);
    check.equal(token, 2);
  }
  backend_destroy(backend);
}

static void check_size() {
  Check check("one thread runs the passes for which a team waits more than it computes, and the team is tried again ever later");
  const int64_t ms = 1'000'000;
  TeamSize size(4);
  int64_t now = 0;
  /** So many passes of 5 ms; how many of them the team had. */
  const auto run = [&](int passes, int64_t computed) {
    int whole = 0;
    for (int i = 0; i < passes; ++i) {
      const int threads = size.next(now);
      now += 5 * ms;
      if (threads == 1) continue;
      check.equal(threads, 4);
      size.passed(now, 5 * ms, computed);
      ++whole;
    }
    return whole;
  };
  check.equal(run(80, 20 * ms), 80);  // nobody waits
  check.equal(run(80, 5 * ms), 80);   // as long as one alone would take
  for (const int pause : {50, 100, 200, 400, 800, 1600, 3200, 3200}) {
    check.equal(run(8, 4 * ms), 8);
    check.equal(run(pause / 5, 4 * ms), 0);
  }
  check.equal(run(80, 20 * ms), 80);
  check.equal(run(8, 4 * ms), 8);
  check.equal(run(10 + 8, 4 * ms), 8);

  TeamSize alone(1);
  check.equal(alone.next(0), 1);
}

static void check_question(int threads) {
  Check check("a pass asks in front of its choice: masks may come until then, and without a choice it changes nothing but positions");
  std::string error;
  Backend* backend;
  check.equal(backend_create(options(threads, 20, 1), &backend, &error), kStatusOk);
  check.that(backend_asks(backend));
  Sampling sampling{};
  const int32_t ids[] = {1, 2, 3}, none[] = {0};
  check.equal(backend_counts(backend, 0, none, 0, &error), kStatusOk);
  int32_t token;
  PassRequest request = one_step(ids, 3, 0, 2, &sampling);
  const uint32_t all_but_6[] = {~(1u << 6), ~0u};
  request.may_choose = [&] { return backend_mask(backend, 0, 0, all_but_6, kVocab, &error) == kStatusOk; };
  check.equal(backend_enqueue(backend, request, &error), kStatusOk);
  check.equal(backend_wait(backend, &token, &error), kStatusOk);
  check.equal(token, 7);
  request.may_choose = [] { return false; };
  check.equal(backend_enqueue(backend, request, &error), kStatusOk);
  check.equal(backend_wait(backend, &token, &error), kStatusOk);
  check.equal(token, kAbandoned);
  check.equal(backend_chosen(backend, &token), 0);
  request.may_choose = []() -> bool { throw std::string("no mask"); };
  check.equal(backend_enqueue(backend, request, &error), kStatusOk);
  bool thrown = false;
  try {
    backend_wait(backend, &token, &error);
  } catch (const std::string& what) {
    thrown = what == "no mask";
  }
  check.that(thrown);
  // The token chosen last is still the one that a pass without ids feeds, and is counted once.
  check.equal(backend_enqueue(backend, one_step(nullptr, 1, 3, 0, &sampling), &error), kStatusOk);
  check.equal(backend_wait(backend, &token, &error), kStatusOk);
  check.equal(token, 7);
  backend_destroy(backend);
}

static void check_masks_of_drafts() {
  Check check("behind each draft of a check its own mask says what may be chosen");
  std::string error;
  Backend* backend;
  check.equal(backend_create(options(1, 20, 1), &backend, &error), kStatusOk);
  check.equal(backend_bias(backend, 0, nullptr, nullptr, 0, &error), kStatusOk);
  Sampling sampling{};
  const uint32_t all_but_3[] = {~(1u << 3), ~0u}, all_but_14[] = {~(1u << 14), ~0u};
  const int32_t ids[] = {3, 4, 7, 15};
  const auto chosen = [&](const std::function<bool()>& may_choose) {
    PassRequest request = one_step(ids, 4, 0, 0, &sampling);
    request.check = true;
    request.may_choose = may_choose;
    int32_t token;
    check.equal(backend_enqueue(backend, request, &error), kStatusOk);
    check.equal(backend_wait(backend, &token, &error), kStatusOk);
    std::vector<int32_t> tokens(4);
    tokens.resize(backend_chosen(backend, tokens.data()));
    return tokens;
  };
  const auto masked = [&](int row, const uint32_t* words) { return backend_mask(backend, 0, row, words, kVocab, &error) == kStatusOk; };
  // Without masks 3 would come behind 3, which is no draft.
  check.that(chosen([] { return true; }) == std::vector<int32_t>{3});
  check.that(chosen([&] { return masked(0, all_but_3); }) == std::vector<int32_t>({4, 7, 14}));
  check.that(chosen([&] { return masked(2, all_but_14); }) == std::vector<int32_t>({4, 7, 15, 29}));
  // A bias of the next reply ends them all.
  check.equal(backend_bias(backend, 0, nullptr, nullptr, 0, &error), kStatusOk);
  check.that(chosen([] { return true; }) == std::vector<int32_t>{3});
  backend_destroy(backend);
}

static void check_late() {
  Check check("a team whose threads are late has its passes run by one of them");
  std::string error;
  Backend* backend;
  check.equal(backend_create(options(3, 20, 1), &backend, &error), kStatusOk);
  Sampling sampling{};
  int32_t token, ids[] = {1, 2, 3, 4};
  std::vector<float> logits(kVocab);
  /** Blocks that ran a pass. */
  const auto blocks = [&] {
    check.equal(backend_enqueue(backend, one_step(ids, 4, 0, 3, &sampling), &error), kStatusOk);
    check.equal(backend_wait(backend, &token, &error), kStatusOk);
    check.equal(token, 10);
    check.equal(backend_logits(backend, 0, 1, logits.data(), &error), kStatusOk);
    return static_cast<int>(logits[2]) / 20;
  };
  others_are_late = true;
  for (int i = 0; i < 8; ++i) check.equal(blocks(), 3);
  int now = 3;
  for (int i = 0; i < 100 && now == 3; ++i) now = blocks();  // once, unless the pause passes meanwhile
  check.equal(now, 1);
  others_are_late = false;
  for (int i = 0; i < 10'000 && now == 1; ++i, usleep(1000)) now = blocks();
  check.equal(now, 3);
  backend_destroy(backend);
}

static void check_copies() {
  std::string error;
  Backend* backend;
  EngineOptions given = options(1, 20, 1);
  given.sequences = 3;
  if (backend_create(given, &backend, &error) != kStatusOk) return Check("copies of positions").that(false);
  Check("a position has a key and a value of each head").equal(backend_position_bytes(backend), kCacheHeads * kPositionBytes);
  check_positions(backend, 20);
  backend_destroy(backend);
}

int main() {
  check_create();
  check_copies();
  check_passes(1);
  check_passes(2);
  check_passes(7);
  for (const int threads : {1, 2, 7}) check_question(threads);
  check_masks_of_drafts();
  check_size();
  check_late();
}
