// A backend without a model, for tests of the host code: the next token is a hash of all tokens fed so far.
// Device 0 shares its memory with the host and runs a pass when it is waited for, as the CPU target does;
// device 1 takes copies and runs passes on a thread of its own, as a GPU does; device 2 also takes requests of many steps,
// device 3 prompts of many tokens.
// Device 7 does not exist.
#include "backend.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "model.h"

constexpr int kManySteps = 64;      // of a request to device 2
constexpr int kPromptTokens = 64;   // of a request to device 3

// Tokens below kOrdinary are sampled; feeding one of these makes its pass misbehave.
constexpr int kOrdinary = 256;
constexpr int kFailToken = 500;    // the pass fails in a stage
constexpr int kSlowToken = 501;    // this pass and all after it take 20 ms
constexpr int kRogueToken = 502;   // samples a token outside the vocabulary
constexpr int kRefuseToken = 503;  // the pass cannot be enqueued
constexpr int kThrowToken = 504;   // the backend throws
constexpr int kNanToken = 505;     // the logits of this token hold a NaN

struct Request {
  PassRequest pass;
  std::vector<int32_t> ids;
  std::vector<int32_t> stop_ids;
  Sampling sampling;
};

struct Result {
  int32_t token;
  int status;
  std::string error;
  bool throws;
};

struct Backend {
  EngineOptions options;
  std::thread::id owner;
  std::vector<char> weights;
  std::vector<uint32_t> hashes;  // [context]: the hash after every position, the stand-in for a KV cache
  std::vector<bool> slow;        // [context]
  std::vector<int32_t> counts;   // [kVocab]
  std::vector<float> logits;     // [most tokens of a request][kVocab], row 0 of token first_logits
  int32_t sampled = -1;
  int most_outstanding = 0;
  int requests_taken = 0;
  int passes_run = 0;
  int steps_waited = 0;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Request> requests;
  std::deque<Result> results;      // one a step
  std::deque<int32_t> outstanding;  // steps of each request that are not yet waited for
  bool stop = false;                // ends what is outstanding
  bool quit = false;
  std::thread device;
};

static std::atomic<Backend*> latest{nullptr};
static std::atomic<int> alive{0};

static Result run_pass(Backend& b, const Request& request, int step) {
  PassRequest pass = request.pass;
  pass.position += step;
  Result result{-1, kStatusOk, "", false};
  bool rogue = false, nan = false;
  for (int i = 0; i < pass.count; ++i) {
    const int32_t id = pass.ids == nullptr ? b.sampled : request.ids[i];
    const int position = pass.position + i;
    uint32_t hash = position == 0 ? 0x811c9dc5u : b.hashes[position - 1];
    hash = (hash ^ static_cast<uint32_t>(id)) * 2654435761u;
    b.hashes[position] = hash ^ (hash >> 15);
    b.slow[position] = id == kSlowToken || (position > 0 && b.slow[position - 1]);
    rogue = rogue || id == kRogueToken;
    nan = id == kNanToken;
    if (id == kFailToken) result = {-1, kStatusDevice, "ffn_down: the fake device gave up", false};
    if (id == kThrowToken) result = {-1, kStatusOk, "", true};
  }
  const int last = pass.position + pass.count - 1;
  if (b.slow[last]) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (result.status != kStatusOk || result.throws) return result;
  std::fill(b.logits.begin(), b.logits.end(), std::numeric_limits<float>::quiet_NaN());
  for (int i = pass.first_logits; i < pass.count; ++i) {
    for (int j = 0; j < kVocab; ++j) {
      const uint32_t mixed = b.hashes[pass.position + i] ^ (static_cast<uint32_t>(j) * 2654435761u);
      b.logits[static_cast<size_t>(i - pass.first_logits) * kVocab + j] = static_cast<float>(mixed & 0xffffu);
    }
    if (pass.ids != nullptr && request.ids[i] == kNanToken) {
      b.logits[static_cast<size_t>(i - pass.first_logits) * kVocab + 7] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  if (!pass.sample) return result;
  if (nan) {
    b.sampled = 0;
    result.token = kNotFinite;
    return result;
  }
  uint32_t next = b.hashes[last] + static_cast<uint32_t>(request.sampling.seed);
  if (request.sampling.repetition_penalty != 1) {
    next = 0;
    for (int j = 0; j < kVocab; ++j) next += static_cast<uint32_t>(b.counts[j]) * static_cast<uint32_t>(j + 1);
  }
  b.sampled = static_cast<int32_t>(next % kOrdinary);
  ++b.counts[b.sampled];
  result.token = rogue ? kVocab + 5 : b.sampled;
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
      Result result{-1, kStatusOk, "", false};
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
  b->weights.assign(kWeightBytes, 0);
  b->hashes.resize(static_cast<size_t>(options.context));
  b->slow.resize(static_cast<size_t>(options.context));
  b->counts.resize(kVocab);
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

int backend_counts(Backend* b, const int32_t* ids, int64_t n, std::string* error) {
  if (int status = misuse(b, error)) return status;
  std::fill(b->counts.begin(), b->counts.end(), 0);
  for (int64_t i = 0; i < n; ++i) ++b->counts[ids[i]];
  return kStatusOk;
}

int32_t backend_prompt_tokens(Backend* b) { return b->options.device == 3 ? kPromptTokens : 0; }

int32_t backend_steps(Backend* b) { return b->options.device == 2 ? kManySteps : 1; }

void backend_stop(Backend* b) {
  std::lock_guard<std::mutex> lock(b->mutex);
  b->stop = true;
}

int backend_enqueue(Backend* b, const PassRequest& pass, std::string* error) {
  if (int status = misuse(b, error)) return status;
  const bool steps_fit = pass.steps == 1 || (pass.steps > 1 && pass.steps <= backend_steps(b) && pass.count == 1 && pass.sample);
  const bool is_prompt = pass.count <= backend_prompt_tokens(b) && !pass.sample;
  const bool fits = steps_fit && pass.count >= 1 && (pass.count <= kPassTokens || is_prompt) && pass.position >= 0 &&
                    pass.position + pass.count + pass.steps - 1 <= b->options.context && pass.first_logits >= 0 &&
                    pass.first_logits <= pass.count && (pass.ids != nullptr || pass.count == 1);
  if (!fits || b->outstanding.size() >= kMaxOutstanding) {
    *error = fits ? "too many passes are outstanding" : "a pass out of bounds";
    return kStatusInternal;
  }
  Request request{pass, {}, {}, pass.sampling == nullptr ? Sampling{} : *pass.sampling};
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
  b->outstanding.push_back(pass.steps);
  b->most_outstanding = std::max(b->most_outstanding, static_cast<int>(b->outstanding.size()));
  ++b->requests_taken;
  b->changed.notify_all();
  return kStatusOk;
}

int backend_wait(Backend* b, int32_t* token, std::string* error) {
  if (int status = misuse(b, error)) return status;
  if (b->outstanding.empty()) {
    *error = "no pass is outstanding";
    return kStatusInternal;
  }
  Result result;
  if (b->options.device == 0) {
    const Request request = std::move(b->requests.front());
    b->requests.pop_front();
    result = run_pass(*b, request, 0);
    ++b->passes_run;
  } else {
    std::unique_lock<std::mutex> lock(b->mutex);
    b->changed.wait(lock, [&] { return !b->results.empty(); });
    result = std::move(b->results.front());
    b->results.pop_front();
  }
  if (--b->outstanding.front() == 0) b->outstanding.pop_front();
  ++b->steps_waited;
  if (result.throws) throw std::runtime_error("the fake backend threw");
  *token = result.token;
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
OL_API int32_t fake_most_outstanding() { return latest.load()->most_outstanding; }
OL_API int32_t fake_requests() { return latest.load()->requests_taken; }
OL_API int32_t fake_passes() {
  Backend* const b = latest;
  std::lock_guard<std::mutex> lock(b->mutex);
  return b->passes_run;
}
OL_API int32_t fake_waits() { return latest.load()->steps_waited; }
OL_API int32_t fake_alive() { return alive; }
OL_API void fake_dirty() { std::memset(latest.load()->weights.data(), 0xee, latest.load()->weights.size()); }
}
