// The interface of the fake (device.h) to the host code, and to the tests, which look at it from outside.
#include "backend.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <iterator>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>
#include <utility>

#include "device.h"

static std::atomic<Backend*> latest{nullptr};
static std::atomic<int> alive{0};

/** Allocations of threads of backends before the one that fails; negative: none does. */
static std::atomic<int> allocations_left{-1};
static thread_local bool may_fail = false;

void* operator new(std::size_t bytes) {
  if (may_fail && allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  if (void* const made = std::malloc(std::max<std::size_t>(bytes, 1))) return made;
  throw std::bad_alloc();
}
void operator delete(void* made) noexcept { std::free(made); }
void operator delete(void* made, std::size_t) noexcept { std::free(made); }

/** While it lives no allocation of this thread fails. */
struct Spared {
  Spared() { may_fail = false; }
  ~Spared() { may_fail = before; }
  const bool before = may_fail;
};

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
  if (options.device < 0 || options.device >= static_cast<int32_t>(std::size(kDevices))) {
    *error = "there is no device " + std::to_string(options.device);
    return kStatusDevice;
  }
  if (options.context > 1 << 20) {
    *error = "no memory for so many positions";
    return kStatusOutOfMemory;
  }
  auto* b = new Backend();
  b->options = options;
  b->can = kDevices[options.device];
  b->owner = std::this_thread::get_id();
  b->weights.assign(kModel.weight_bytes, 0);
  b->hashes.resize(static_cast<size_t>(options.sequences) * options.context);
  b->slow.resize(b->hashes.size());
  b->counts.resize(static_cast<size_t>(options.sequences) * kVocab);
  b->forced.assign(options.sequences, -1);
  b->sampled.assign(options.sequences, -1);
  b->masks.resize(options.sequences + kPassTokens - 1);
  b->logits.resize(static_cast<size_t>(std::max({kPassTokens, backend_prompt_tokens(b), backend_rows(b)})) * kVocab);
  if (options.device != 0) b->device = std::thread([b] { run_device(*b); });
  *out = b;
  latest = b;
  may_fail = true;
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
  for (int row = 1; row < kPassTokens; ++row) b->masks[mask_at(*b, slot, row)].clear();
  return kStatusOk;
}

int backend_mask(Backend* b, int32_t slot, int32_t row, const uint32_t* words, int32_t vocab, std::string* error) {
  if (int status = misuse(b, error)) return status;
  std::vector<bool>& mask = b->masks[mask_at(*b, slot, row)];
  mask.clear();
  for (int32_t id = 0; words != nullptr && id < kVocab; ++id) mask.push_back(id < vocab && (words[id / 32] >> id % 32 & 1) != 0);
  return kStatusOk;
}

int32_t backend_prompt_tokens(Backend* b) { return b->can.prompt_tokens; }
int32_t backend_prompt_least(Backend*) { return 3 * kPassTokens; }
bool backend_prompt_logits(Backend* b) { return b->can.prompt_logits; }

bool backend_asks(Backend* b) { return b->can.asks; }

int32_t backend_steps(Backend* b) { return b->can.steps; }

int32_t backend_check_tokens(Backend* b) { return b->can.drafts; }

int32_t backend_check_tokens_at(Backend* b, int32_t position) {
  const int32_t most = std::max<int32_t>(1, b->can.drafts);
  return b->can.fewer_drafts ? std::min(most, 1 + position % 5) : most;
}

int32_t backend_rows(Backend* b) { return b->can.rows; }

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
    b->slow[at] = in[sizeof(uint32_t)];
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
  const Spared whole;  // what it keeps of a request is all or nothing
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
  const bool fits = steps_fit && check_fits && rows_fit && is_place(pass.slot, 0) && pass.count >= 1 && (pass.count <= kPassTokens || is_prompt || pass.rows != nullptr) && pass.position >= 0 &&
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
  b->chunks += pass.rows == nullptr && pass.count > 1;
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
  const std::function<bool()> question = std::exchange(oldest.question, nullptr);
  try {
    oldest.chooses = question();
  } catch (...) {
    oldest.chooses = false;
    oldest.failure = std::current_exception();
  }
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
  std::exception_ptr failure;
  if (b->options.device == 0) {
    const Request request = std::move(b->requests.front());
    b->requests.pop_front();
    try {
      result = run_pass(*b, request, 0);
    } catch (...) {
      failure = std::current_exception();
    }
    ++b->passes_run;
  } else {
    backend_ask(b);
    std::unique_lock<std::mutex> lock(b->mutex);
    b->changed.wait(lock, [&] { return !b->results.empty(); });
    result = std::move(b->results.front());
    b->results.pop_front();
    b->answer.reset();  // of a pass that failed before it asked
    failure = b->outstanding.front().failure;
  }
  if (--b->outstanding.front().steps == 0) b->outstanding.pop_front();
  ++b->steps_waited;
  if (failure) std::rethrow_exception(failure);
  if (result.throws) throw std::runtime_error("the fake backend threw");
  *token = result.token;
  b->chosen = result.chosen;
  b->kept = result.kept;
  *error = result.error;
  return result.status;
}

int backend_logits(Backend* b, int32_t row, int32_t rows, float* out, std::string* error) {
  if (int status = misuse(b, error)) return status;
  std::memcpy(out, b->logits.data() + static_cast<size_t>(row) * kVocab, sizeof(float) * kVocab * static_cast<size_t>(rows));
  return kStatusOk;
}

bool backend_keeps_logits(Backend* b) { return b->can.keeps; }

int backend_logits_row(Backend* b, int32_t row, const float** logits, std::string* error) {
  if (int status = misuse(b, error)) return status;
  *logits = row == 0 && !b->kept.empty() ? b->kept.data() : b->logits.data() + static_cast<size_t>(row) * kVocab;
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
OL_API int32_t fake_chunks() { return latest.load()->chunks; }
OL_API int32_t fake_requests() { return latest.load()->requests_taken; }
OL_API int32_t fake_passes() {
  Backend* const b = latest;
  std::lock_guard<std::mutex> lock(b->mutex);
  return b->passes_run;
}
OL_API int32_t fake_waits() { return latest.load()->steps_waited; }
OL_API int32_t fake_counted() { return latest.load()->times_counted; }
OL_API void fake_allow(int32_t passes) { allow(passes); }
OL_API void fake_exhaust(int32_t allocations) { allocations_left = allocations; }
OL_API void fake_exhaust_caller(int32_t allocations) {
  may_fail = allocations >= 0;
  allocations_left = allocations;
}
OL_API int32_t fake_allocations_left() { return allocations_left; }
OL_API int32_t fake_alive() { return alive; }
OL_API void fake_dirty() { std::memset(latest.load()->weights.data(), 0xee, latest.load()->weights.size()); }
}
