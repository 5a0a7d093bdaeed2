// A backend without a model, for tests of the host code: the next token is a hash of all tokens fed so far.
// Device 0 shares its memory with the host and runs a pass when it is waited for, as the CPU target does;
// device 1 takes copies and runs passes on a thread of its own, as a GPU does; device 2 also takes requests of many steps,
// device 3 prompts of many tokens. Devices 0, 1 and 4 check drafts, and their passes have rows of several sequences. Device 4 takes many steps,
// too, and checks fewer drafts at some positions than at others. Device 6 runs passes of rows as device 1 does, and asks as device 0 does. Where it samples with top_k, text repeats after so many tokens, but for a share min_p of them.
// Device 7 does not exist.
#include "backend.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "drafter.h"
#include "model_facts.h"
#include "sizes.h"

constexpr int kManySteps = 64;      // of a request to devices 2 and 4
constexpr int kPromptTokens = 64;   // of a request to devices 3 and 5

// Tokens below kOrdinary are sampled; feeding one of these makes its pass misbehave.
constexpr int kOrdinary = 256;
constexpr int kFailToken = 500;    // the pass fails in a stage
constexpr int kSlowToken = 501;    // this pass and all after it take 20 ms, and 4 for each draft; one that asks for its masks as long to enqueue
constexpr int kRogueToken = 502;   // samples a token outside the vocabulary
constexpr int kRefuseToken = 503;  // the pass cannot be enqueued
constexpr int kThrowToken = 504;   // the backend throws
constexpr int kNanToken = 505;     // the logits of this token hold a NaN

struct Request {
  PassRequest pass;
  std::vector<int32_t> ids;
  std::vector<int32_t> stop_ids;
  Sampling sampling;
  std::vector<Row> rows;
  std::vector<Sampling> row_sampling;
};

/** Drafts what is always wrong, or two right tokens and a wrong one of a text that repeats after five. */
struct FakeDrafter : Drafter {
  enum Kind { kNone, kGarbage, kHalf };
  Kind kind = kNone;
  Draft draft(const std::vector<int32_t>& known, int32_t most) override;
};

/** A request that was not waited for. */
struct Outstanding {
  int32_t steps;  // not yet waited for
  std::function<bool()> answered, question;  // which is still to be asked
  bool chooses = true;
};

struct Result {
  int32_t token;
  int status;
  std::string error;
  bool throws;
  std::vector<int32_t> chosen;
};

struct Backend {
  EngineOptions options;
  std::thread::id owner;
  std::vector<char> weights;
  std::vector<uint32_t> hashes;  // [sequences][context]: the hash after every position, the stand-in for a KV cache
  std::vector<char> slow;        // [sequences][context]; bytes, since positions of several sequences are touched at a time
  std::vector<int32_t> counts;   // [sequences][kVocab]
  std::vector<int32_t> forced;   // [sequences] the token with the largest bias; -1: there are none
  std::vector<std::vector<bool>> masks;  // [sequences][kVocab] tokens that may be chosen; empty: all may
  std::vector<float> logits;     // [most tokens of a request][kVocab], row 0 of token first_logits
  std::vector<int32_t> sampled;  // [sequences] the token chosen last
  std::vector<int32_t> chosen;  // by the step waited for last
  FakeDrafter drafter;
  int most_outstanding = 0;
  int requests_taken = 0;
  int passes_run = 0;
  int most_rows = 0;
  int steps_waited = 0;
  int times_counted = 0;  // that counts were given

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Request> requests;
  std::deque<Result> results;      // one a step
  std::deque<Outstanding> outstanding;
  bool asks = false;              // the pass that runs has its logits, and waits for an answer
  std::optional<bool> answer;
  std::atomic<bool> stop{false};    // ends what is outstanding
  bool quit = false;
  std::thread device;
};

static std::atomic<Backend*> latest{nullptr};
static std::atomic<int> alive{0};
constexpr int kAnyNumber = -1;
static std::mutex allowed_mutex;
static std::condition_variable allowed_more;
static int allowed = kAnyNumber;  // passes that may run; then they wait, until what is outstanding is asked to stop or more are allowed

static void allow(int passes) {
  std::lock_guard<std::mutex> lock(allowed_mutex);
  allowed = passes;
  allowed_more.notify_all();
}

/** What a text that repeats after `period` tokens has at a position. */
static int32_t repeated(int position, int period, uint32_t seed) {
  const uint32_t mixed = (static_cast<uint32_t>(position % period) + 1 + seed) * 2654435761u;
  return static_cast<int32_t>((mixed ^ (mixed >> 15)) % kOrdinary);
}

Draft FakeDrafter::draft(const std::vector<int32_t>& known, int32_t most) {
  Draft draft;
  for (int32_t i = 0; i < most; ++i) {
    const int32_t right = repeated(static_cast<int32_t>(known.size()) + i, 5, 0);
    draft.tokens.push_back(kind == kGarbage ? (known.back() * 31 + i * 7) % kOrdinary : i % 3 < 2 ? right : (right + 1) % kOrdinary);
  }
  return draft;
}

/** The token after the one at a position of a sequence, whose hash and whose counts are there. */
static int32_t choose(const Backend& b, const Sampling& sampling, int slot, int position) {
  const auto seed = static_cast<uint32_t>(sampling.seed);
  const uint32_t hash = b.hashes[slot * b.options.context + position] + seed;
  if (b.forced[slot] >= 0) return b.forced[slot];
  uint32_t counted = 0;
  if (sampling.repetition_penalty != 1) {
    for (int j = 0; j < kVocab; ++j) counted += static_cast<uint32_t>(b.counts[slot * kVocab + j]) * static_cast<uint32_t>(j + 1);
  }
  if (sampling.top_k > 0 && sampling.temperature > 0) {
    if (static_cast<float>((hash ^ position) % 1000) < sampling.min_p * 1000) return static_cast<int32_t>((hash >> 7) % kOrdinary);
    const bool other = sampling.repetition_penalty != 1 && counted % 7 == 0;
    return (repeated(position + 1, sampling.top_k, seed) + static_cast<int32_t>(other)) % kOrdinary;
  }
  return static_cast<int32_t>((sampling.repetition_penalty != 1 ? counted : hash) % kOrdinary);
}

/** The token itself, or the next one behind it that the mask of its sequence allows; behind the last one comes the first. */
static int32_t allowed_from(const Backend& b, int slot, int32_t token) {
  const std::vector<bool>& mask = b.masks[slot];
  if (mask.empty()) return token;
  for (int32_t id = token;; id = (id + 1) % kVocab) {
    if (mask[id]) return id;
  }
}

/** Whether a pass whose logits are there may choose: its own thread waits for the answer of backend_ask. */
static bool may_choose(Backend& b, const PassRequest& pass) {
  if (!pass.may_choose) return true;
  if (b.options.device == 0) return pass.may_choose();
  std::unique_lock<std::mutex> lock(b.mutex);
  b.asks = true;
  b.changed.notify_all();
  b.changed.wait(lock, [&] { return b.answer.has_value(); });
  b.asks = false;
  const bool answer = *b.answer;
  b.answer.reset();
  return answer;
}

static Result run_pass(Backend& b, const Request& request, int step) {
  {
    std::unique_lock<std::mutex> lock(allowed_mutex);
    allowed_more.wait(lock, [&] { return allowed != 0 || b.stop; });
    if (allowed > 0) --allowed;
  }
  PassRequest pass = request.pass;
  pass.position += step;
  const bool apart = !request.rows.empty();
  const auto slot_of = [&](int i) { return apart ? request.rows[i].slot : pass.slot; };
  const auto position_of = [&](int i) { return apart ? request.rows[i].position : pass.position + i; };
  Result result{-1, kStatusOk, "", false, {}};
  std::vector<bool> rogue(pass.count), nan(pass.count);
  bool slow = false;
  for (int i = 0; i < pass.count; ++i) {
    const int slot = slot_of(i), position = position_of(i), at = slot * b.options.context + position;
    const int32_t id = step > 0 || pass.ids == nullptr || request.ids[i] == kLastChosen ? b.sampled[slot] : request.ids[i];
    uint32_t hash = position == 0 ? 0x811c9dc5u : b.hashes[at - 1];
    hash = (hash ^ static_cast<uint32_t>(id)) * 2654435761u;
    b.hashes[at] = hash ^ (hash >> 15);
    b.slow[at] = id == kSlowToken || (position > 0 && b.slow[at - 1]);
    slow = slow || b.slow[at];
    rogue[i] = id == kRogueToken || (!apart && i > 0 && rogue[i - 1]);
    nan[i] = id == kNanToken;
    if (id == kFailToken) result = {-1, kStatusDevice, "ffn_down: the fake device gave up", false, {}};
    if (id == kThrowToken) result = {-1, kStatusOk, "", true, {}};
  }
  if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(20 + (pass.check ? 4 * (pass.count - 1) : 0)));
  if (result.status != kStatusOk || result.throws) return result;
  std::fill(b.logits.begin(), b.logits.end(), std::numeric_limits<float>::quiet_NaN());
  for (int i = pass.first_logits; i < pass.count; ++i) {
    for (int j = 0; j < kVocab; ++j) {
      const uint32_t mixed = b.hashes[slot_of(i) * b.options.context + position_of(i)] ^ (static_cast<uint32_t>(j) * 2654435761u);
      b.logits[static_cast<size_t>(i - pass.first_logits) * kVocab + j] = static_cast<float>(mixed & 0xffffu);
    }
    if (pass.ids != nullptr && request.ids[i] == kNanToken) {
      b.logits[static_cast<size_t>(i - pass.first_logits) * kVocab + 7] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  if (!pass.sample) return result;
  if (!may_choose(b, pass)) return {kAbandoned, kStatusOk, "", false, {}};
  for (int i = pass.check || apart ? 0 : pass.count - 1; i < pass.count; ++i) {
    const int slot = slot_of(i);
    const int32_t token = nan[i] ? 0 : allowed_from(b, slot, choose(b, apart ? request.row_sampling[i] : request.sampling, slot, position_of(i)));
    b.sampled[slot] = token;
    if (!nan[i]) ++b.counts[slot * kVocab + token];
    result.chosen.push_back(nan[i] ? kNotFinite : rogue[i] ? kVocab + 5 : token);
    if (!apart && i + 1 < pass.count && result.chosen.back() != request.ids[i + 1]) break;
  }
  result.token = result.chosen.front();
  return result;
}

static void run_device(Backend& b) {
  for (;;) {
    Request request;
    {
      std::unique_lock<std::mutex> lock(b.mutex);
      b.changed.wait(lock, [&] { return b.quit || !b.requests.empty(); });
      if (b.requests.empty()) return;
      request = std::move(b.requests.front());
      b.requests.pop_front();
    }
    const std::vector<int32_t>& stops = request.stop_ids;
    bool ended = false;
    for (int step = 0; step < request.pass.steps; ++step) {
      Result result{-1, kStatusOk, "", false, {}};
      if (!ended) result = run_pass(b, request, step);
      std::lock_guard<std::mutex> lock(b.mutex);
      b.passes_run += !ended;
      if (request.pass.count > kPassTokens && b.stop) result.token = kAbandoned;
      ended = ended || b.stop || result.status != kStatusOk || std::find(stops.begin(), stops.end(), result.token) != stops.end();
      b.results.push_back(std::move(result));
      b.changed.notify_all();
    }
  }
}

/** Every call must come from the thread that made the backend. */
static int misuse(Backend* b, std::string* error) {
  if (std::this_thread::get_id() == b->owner) return kStatusOk;
  *error = "called from another thread";
  return kStatusInternal;
}

int backend_create(const EngineOptions& options, Backend** out, std::string* error) {
  if (options.device == 7) {
    *error = "there is no device 7";
    return kStatusDevice;
  }
  if (options.context > 1 << 20) {
    *error = "no memory for so many positions";
    return kStatusOutOfMemory;
  }
  auto* b = new Backend();
  b->options = options;
  b->owner = std::this_thread::get_id();
  b->weights.assign(kModel.weight_bytes, 0);
  b->hashes.resize(static_cast<size_t>(options.sequences) * options.context);
  b->slow.resize(b->hashes.size());
  b->counts.resize(static_cast<size_t>(options.sequences) * kVocab);
  b->forced.assign(options.sequences, -1);
  b->sampled.assign(options.sequences, -1);
  b->masks.resize(options.sequences);
  b->logits.resize(static_cast<size_t>(std::max<int32_t>(kPassTokens, backend_prompt_tokens(b))) * kVocab);
  if (options.device != 0) b->device = std::thread([b] { run_device(*b); });
  *out = b;
  latest = b;
  ++alive;
  return kStatusOk;
}

void backend_destroy(Backend* b) {
  if (b == nullptr) return;
  {
    std::lock_guard<std::mutex> lock(b->mutex);
    b->quit = true;
    b->changed.notify_all();
  }
  if (b->device.joinable()) b->device.join();
  if (latest == b) latest = nullptr;
  delete b;
  --alive;
}

int backend_write(Backend* b, int64_t offset, const void* data, int64_t bytes, std::string* error) {
  if (int status = misuse(b, error)) return status;
  std::memcpy(b->weights.data() + offset, data, static_cast<size_t>(bytes));
  return kStatusOk;
}

int backend_finish_load(Backend* b, std::string* error) { return misuse(b, error); }

void* backend_map(Backend* b, int64_t offset) { return b->options.device == 0 ? b->weights.data() + offset : nullptr; }

int backend_counts(Backend* b, int32_t slot, const int32_t* ids, int64_t n, std::string* error) {
  if (int status = misuse(b, error)) return status;
  ++b->times_counted;
  int32_t* const counts = b->counts.data() + slot * kVocab;
  std::fill_n(counts, kVocab, 0);
  for (int64_t i = 0; i < n; ++i) ++counts[ids[i]];
  return kStatusOk;
}

int backend_bias(Backend* b, int32_t slot, const int32_t* ids, const float* biases, int64_t n, std::string* error) {
  if (int status = misuse(b, error)) return status;
  b->forced[slot] = n == 0 ? -1 : ids[std::max_element(biases, biases + n) - biases];
  b->masks[slot].clear();
  return kStatusOk;
}

int backend_mask(Backend* b, int32_t slot, const uint32_t* words, int32_t vocab, std::string* error) {
  if (int status = misuse(b, error)) return status;
  std::vector<bool>& mask = b->masks[slot];
  mask.clear();
  for (int32_t id = 0; words != nullptr && id < kVocab; ++id) mask.push_back(id < vocab && (words[id / 32] >> id % 32 & 1) != 0);
  return kStatusOk;
}

int32_t backend_prompt_tokens(Backend* b) { return b->options.device == 3 || b->options.device == 5 ? kPromptTokens : 0; }
int32_t backend_prompt_least(Backend*) { return 3 * kPassTokens; }
bool backend_prompt_logits(Backend* b) { return b->options.device != 5; }

bool backend_asks(Backend* b) { return b->options.device == 0 || b->options.device == 6; }

int32_t backend_steps(Backend* b) { return b->options.device == 2 || b->options.device == 4 ? kManySteps : 1; }

int32_t backend_check_tokens(Backend* b) { return b->options.device < 2 || b->options.device == 4 ? kPassTokens : 0; }

int32_t backend_check_tokens_at(Backend* b, int32_t position) {
  const int32_t most = std::max<int32_t>(1, backend_check_tokens(b));
  return b->options.device == 4 ? std::min(most, 1 + position % 5) : most;
}

int32_t backend_rows(Backend* b) {
  const int device = b->options.device;
  return device < 2 || device == 4 || device == 6 ? kPassTokens : 1;
}

Drafter* backend_drafter(Backend* b) { return b->drafter.kind == FakeDrafter::kNone ? nullptr : &b->drafter; }

// A position is its hash, and whether it is slow.
constexpr int64_t kPositionBytes = 5;

int64_t backend_position_bytes(Backend*) { return kPositionBytes; }

int backend_copy_positions(Backend* b, int32_t from, int32_t to, int32_t count, std::string* error) {
  std::vector<char> bytes(static_cast<size_t>(count * kPositionBytes));
  if (int status = backend_read_positions(b, from, 0, count, bytes.data(), error)) return status;
  return backend_write_positions(b, to, 0, count, bytes.data(), error);
}

int backend_read_positions(Backend* b, int32_t slot, int32_t position, int32_t count, void* bytes, std::string*) {
  auto* out = static_cast<char*>(bytes);
  for (int at = slot * b->options.context + position; count-- > 0; ++at, out += kPositionBytes) {
    std::memcpy(out, &b->hashes[at], sizeof(uint32_t));
    out[sizeof(uint32_t)] = b->slow[at];
  }
  return kStatusOk;
}

int backend_write_positions(Backend* b, int32_t slot, int32_t position, int32_t count, const void* bytes, std::string*) {
  const auto* in = static_cast<const char*>(bytes);
  for (int at = slot * b->options.context + position; count-- > 0; ++at, in += kPositionBytes) {
    std::memcpy(&b->hashes[at], in, sizeof(uint32_t));
    b->slow[at] = in[sizeof(uint32_t)] != 0;
  }
  return kStatusOk;
}

int32_t backend_chosen(Backend* b, int32_t* out) {
  std::copy(b->chosen.begin(), b->chosen.end(), out);
  return static_cast<int32_t>(b->chosen.size());
}

void backend_stop(Backend* b) {
  // At once: a device that sees more passes allowed, but not yet the stop, would run all of them.
  std::lock_guard<std::mutex> lock(allowed_mutex);
  b->stop = true;
  if (std::this_thread::get_id() != b->owner) allowed = kAnyNumber;  // for good: the caller's stop may come just before the next pass
  allowed_more.notify_all();
}

int backend_enqueue(Backend* b, const PassRequest& pass, std::string* error) {
  if (int status = misuse(b, error)) return status;
  const bool steps_fit = pass.steps == 1 || (pass.steps > 1 && pass.steps <= backend_steps(b) && pass.count == 1 && pass.sample);
  const bool is_prompt = pass.count <= backend_prompt_tokens(b) && (backend_prompt_logits(b) || (!pass.sample && pass.first_logits == pass.count));
  const bool check_fits = !pass.check || (pass.count > 1 && pass.count <= backend_check_tokens_at(b, pass.position) && pass.sample && pass.first_logits == 0 &&
                                          pass.steps == 1 && pass.ids != nullptr);
  const auto is_place = [&](int32_t slot, int32_t position) {
    return slot >= 0 && slot < b->options.sequences && position >= 0 && position < b->options.context;
  };
  bool rows_fit = pass.rows == nullptr || (backend_rows(b) > 1 && pass.count <= backend_rows(b) && pass.sample && pass.first_logits == 0 &&
                                           pass.steps == 1 && pass.ids != nullptr && !pass.check);
  for (int32_t i = 0; rows_fit && pass.rows != nullptr && i < pass.count; ++i) {
    rows_fit = is_place(pass.rows[i].slot, pass.rows[i].position);
    for (int32_t j = 0; j < i; ++j) rows_fit = rows_fit && pass.rows[i].slot != pass.rows[j].slot;
  }
  const bool fits = steps_fit && check_fits && rows_fit && is_place(pass.slot, 0) && pass.count >= 1 && (pass.count <= kPassTokens || is_prompt) && pass.position >= 0 &&
                    (pass.rows != nullptr || pass.position + pass.count + pass.steps - 1 <= b->options.context) && pass.first_logits >= 0 &&
                    pass.first_logits <= pass.count && (pass.ids != nullptr || pass.count == 1);
  const bool unasked = b->options.device != 0 && !b->outstanding.empty() && b->outstanding.back().question;
  if (!fits || unasked || b->outstanding.size() >= kMaxOutstanding) {
    *error = unasked ? "a pass behind one that was not asked" : fits ? "too many passes are outstanding" : "a pass out of bounds";
    return kStatusInternal;
  }
  const int32_t slot = pass.rows ? pass.rows[0].slot : pass.slot, position = pass.rows ? pass.rows[0].position : pass.position;
  if (pass.may_choose && position > 0 && b->slow[slot * b->options.context + position - 1]) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Request request{pass, {}, {}, pass.sampling == nullptr ? Sampling{} : *pass.sampling, {}, {}};
  if (pass.rows != nullptr) {
    request.rows.assign(pass.rows, pass.rows + pass.count);
    for (const Row& row : request.rows) request.row_sampling.push_back(*row.sampling);
  }
  if (pass.ids != nullptr) request.ids.assign(pass.ids, pass.ids + pass.count);
  if (pass.steps > 1) request.stop_ids.assign(pass.stop_ids, pass.stop_ids + pass.stop_count);
  for (int32_t id : request.ids) {
    if (id != kRefuseToken) continue;
    *error = "no memory for this pass";
    return kStatusOutOfMemory;
  }
  std::lock_guard<std::mutex> lock(b->mutex);
  if (b->outstanding.empty()) b->stop = false;
  b->requests.push_back(std::move(request));
  b->outstanding.push_back({pass.steps, pass.answered, pass.may_choose});
  b->most_outstanding = std::max(b->most_outstanding, static_cast<int>(b->outstanding.size()));
  ++b->requests_taken;
  b->most_rows = std::max(b->most_rows, pass.rows == nullptr ? 0 : pass.count);
  b->changed.notify_all();
  return kStatusOk;
}

bool backend_ask(Backend* b) {
  if (b->options.device == 0) return false;
  Outstanding& oldest = b->outstanding.front();
  if (!oldest.question) return oldest.chooses;
  const auto is_over = [&] {
    std::lock_guard<std::mutex> lock(b->mutex);
    return b->asks || !b->results.empty();
  };
  while (!oldest.answered() && !is_over()) {
  }
  oldest.chooses = std::exchange(oldest.question, nullptr)();
  std::lock_guard<std::mutex> lock(b->mutex);
  b->answer = oldest.chooses;
  b->changed.notify_all();
  return oldest.chooses;
}

int backend_wait(Backend* b, int32_t* token, std::string* error) {
  if (int status = misuse(b, error)) return status;
  if (b->outstanding.empty()) {
    *error = "no pass is outstanding";
    return kStatusInternal;
  }
  Result result{};
  if (b->options.device == 0) {
    const Request request = std::move(b->requests.front());
    b->requests.pop_front();
    result = run_pass(*b, request, 0);
    ++b->passes_run;
  } else {
    backend_ask(b);
    std::unique_lock<std::mutex> lock(b->mutex);
    b->changed.wait(lock, [&] { return !b->results.empty(); });
    result = std::move(b->results.front());
    b->results.pop_front();
    b->answer.reset();  // of a pass that failed before it asked
  }
  if (--b->outstanding.front().steps == 0) b->outstanding.pop_front();
  ++b->steps_waited;
  if (result.throws) throw std::runtime_error("the fake backend threw");
  *token = result.token;
  b->chosen = result.chosen;
  *error = result.error;
  return result.status;
}

int backend_logits(Backend* b, int32_t row, int32_t rows, float* out, std::string* error) {
  if (int status = misuse(b, error)) return status;
  std::memcpy(out, b->logits.data() + static_cast<size_t>(row) * kVocab, sizeof(float) * kVocab * static_cast<size_t>(rows));
  return kStatusOk;
}

std::string backend_device(Backend* b) {
  return b->options.device == 0 ? "fake host" : "fake device " + std::to_string(b->options.device);
}

// What tests look at from outside, for the backend made last.
extern "C" {
OL_API void fake_weights(void* out, int64_t bytes) { std::memcpy(out, latest.load()->weights.data(), static_cast<size_t>(bytes)); }
OL_API void fake_drafts(int32_t kind) { latest.load()->drafter.kind = static_cast<FakeDrafter::Kind>(kind); }
OL_API int32_t fake_most_outstanding() { return latest.load()->most_outstanding; }
OL_API int32_t fake_most_rows() { return latest.load()->most_rows; }
OL_API int32_t fake_requests() { return latest.load()->requests_taken; }
OL_API int32_t fake_passes() {
  Backend* const b = latest;
  std::lock_guard<std::mutex> lock(b->mutex);
  return b->passes_run;
}
OL_API int32_t fake_waits() { return latest.load()->steps_waited; }
OL_API int32_t fake_counted() { return latest.load()->times_counted; }
OL_API void fake_allow(int32_t passes) { allow(passes); }
OL_API int32_t fake_alive() { return alive; }
OL_API void fake_dirty() { std::memset(latest.load()->weights.data(), 0xee, latest.load()->weights.size()); }
}
