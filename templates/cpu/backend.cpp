// The CPU target's Backend: one arena, its threads, and the kernel of the best instruction set this machine has.
#include "host/backend.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "arena.h"
#include "cores.h"
#include "paths.h"
#include "requests.h"
#include "threads.h"

#include "host/cache_rows.h"
#include "host/model_facts.h"
#include "host/noise.h"

namespace {

/** The most tokens that are checked together: computed one by one they cost arithmetic, and more of them are seldom all right. */
constexpr int kMostChecked = 16;

struct Job {
  Call call;
  std::vector<int32_t> ids;  // empty: the token sampled before
  bool check;                // those from the second on are drafts
  std::vector<Row> rows;     // empty: they are of one sequence
  std::vector<Sampling> samplings;  // of rows
  int32_t slot;  // of the sequence that they are of
  std::function<bool()> may_choose;
};

}  // namespace

struct Backend {
  Arena arena;
  char* weights;
  int* ids;
  int* next;
  float* logits;
  Call bound;                 // pointers and sizes, of the sequence in slot 0; each pass fills in the rest
  int sequences;
  CacheShape cache;           // of each
  std::vector<std::vector<float>> biases;  // of each sequence [kVocab]; empty: none
  std::vector<std::vector<uint32_t>> masks;  // of each sequence, a bit for each token that may be chosen; empty: all may. Then those behind drafts
  std::vector<Choice> choices;               // of a pass, by its rows of logits

  Path path;
  std::deque<Job> jobs;
  int logits_rows = 0;          // of the latest finished pass
  std::vector<int32_t> chosen;  // by it

  Threads threads;  // the last: it ends before what its passes use
};

namespace {

/** Where in `masks` the one of a sequence is, or the one behind a draft. */
size_t mask_at(const Backend& backend, int slot, int row) { return row == 0 ? slot : backend.sequences + row - 1; }

Choice choice_of(const Backend& backend, int slot, int row = 0) {
  const std::vector<float>& bias = backend.biases[slot];
  const std::vector<uint32_t>& mask = backend.masks[mask_at(backend, slot, row)];
  return {bias.empty() ? nullptr : bias.data(), mask.empty() ? nullptr : mask.data()};
}

/** What is bound, for the sequence in a slot. */
Call call_of(const Backend& backend, int slot) {
  Call call = backend.bound;
  call.cache += slot * backend.threads.team.sequence_bytes;
  call.counts += int64_t{slot} * kModel.vocab;
  return call;
}

std::string megabytes(int64_t bytes) {
  char text[32];
  snprintf(text, sizeof text, "%.1f MB", bytes / 1e6);
  return text;
}

/** table [context][head_dim / 2][2] := cos, sin, as large as their pair's are. */
void fill_rope(float* table, int context, const Kernel& kernel) {
  const int half = kernel.head_dim / 2;
  for (int position = 0; position < context; ++position) {
    for (int i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * kernel.inv_freq[i];
      const float size = i < kernel.rotated_pairs ? kernel.rotated_size : 1;
      table[(static_cast<int64_t>(position) * half + i) * 2] = std::cos(angle) * size;
      table[(static_cast<int64_t>(position) * half + i) * 2 + 1] = std::sin(angle) * size;
    }
  }
}

int create(const EngineOptions& options, Backend* backend, std::string* error) {
  const int context = options.context;
  if (context < 1) {
    *error = "context must be at least 1, got " + std::to_string(context);
    return kStatusBadArgument;
  }
  if (options.threads < 0 || options.threads > 1024) {
    *error = "threads must be 0 (one for each core) to 1024, got " + std::to_string(options.threads);
    return kStatusBadArgument;
  }
  if (const int status = choose_path(options.isa, &backend->path, error)) return status;
  const int threads = options.threads > 0 ? options.threads : usable_cores();

  if (options.sequences < 1 || options.sequences > kMostSequences) {
    *error = "sequences must be 1 to " + std::to_string(kMostSequences) + ", got " + std::to_string(options.sequences);
    return kStatusBadArgument;
  }
  const Kernel& kernel = *backend->path.kernel;
  backend->cache = {kernel.cache_heads, context, kernel.position_bytes};
  backend->threads.team.sequence_bytes = context * backend->cache.position_bytes();
  const int64_t cache = options.sequences * backend->threads.team.sequence_bytes;
  const int64_t rope = int64_t{context} * kernel.head_dim * sizeof(float);
  const int64_t logits = int64_t{kModel.pass_tokens} * kModel.vocab * sizeof(float);
  const int64_t counts = int64_t{options.sequences} * kModel.vocab * sizeof(int);
  const int64_t ids = kModel.pass_tokens * sizeof(int);
  int64_t total = 0;
  for (int64_t piece : {kModel.weight_bytes, cache, rope, kernel.activation_bytes, logits, counts, ids, ids}) {
    total += Arena::rounded(piece);
  }
  total += threads * Arena::rounded(kernel.scratch_bytes);
  if (!backend->arena.map(total)) {
    *error = "cannot allocate " + megabytes(total) + ": weights " + megabytes(kModel.weight_bytes) + ", KV cache of " +
             (options.sequences > 1 ? std::to_string(options.sequences) + " x " : "") + std::to_string(context) + " positions " + megabytes(cache) + ", activations " +
             megabytes(kernel.activation_bytes + logits + threads * kernel.scratch_bytes) + " (" + strerror(errno) + ")";
    return kStatusOutOfMemory;
  }

  Arena& arena = backend->arena;
  Call& bound = backend->bound;
  bound.context = context;
  backend->sequences = options.sequences;
  backend->biases.resize(options.sequences);
  backend->masks.resize(options.sequences + kMostChecked - 1);
  backend->choices.resize(std::max(kModel.pass_tokens, kMostChecked));
  backend->weights = arena.take<char>(kModel.weight_bytes);
  bound.weights = backend->weights;
  bound.cache = arena.take<char>(cache);
  float* const table = arena.take<float>(rope);
  fill_rope(table, context, kernel);
  bound.rope = table;
  bound.activations = arena.take<char>(kernel.activation_bytes);
  bound.logits = backend->logits = arena.take<float>(logits);
  bound.counts = arena.take<int>(counts);
  bound.ids = backend->ids = arena.take<int>(ids);
  bound.next = backend->next = arena.take<int>(ids);

  std::vector<float*> scratches;
  for (int i = 0; i < threads; ++i) scratches.push_back(arena.take<float>(kernel.scratch_bytes));
  return backend->threads.start(backend->path.kernel->run, scratches, error);
}

}  // namespace

int backend_create(const EngineOptions& options, Backend** out, std::string* error) {
  *out = nullptr;
  error->clear();
  Backend* backend = new (std::nothrow) Backend{};
  if (!backend) {
    *error = "out of memory";
    return kStatusOutOfMemory;
  }
  const int status = create(options, backend, error);
  if (status != kStatusOk) {
    delete backend;
    return status;
  }
  *out = backend;
  return kStatusOk;
}

void backend_destroy(Backend* backend) { delete backend; }

int backend_write(Backend* backend, int64_t offset, const void* data, int64_t bytes, std::string* error) {
  if (offset < 0 || bytes < 0 || offset > kModel.weight_bytes - bytes) {
    *error = "bytes [" + std::to_string(offset) + ", " + std::to_string(offset + bytes) + ") are outside the packed weights, " +
             std::to_string(kModel.weight_bytes) + " bytes";
    return kStatusBadArgument;
  }
  memcpy(backend->weights + offset, data, bytes);
  return kStatusOk;
}

int backend_finish_load(Backend*, std::string*) { return kStatusOk; }

void* backend_map(Backend* backend, int64_t offset) { return backend->weights + offset; }

int backend_counts(Backend* backend, int32_t slot, const int32_t* ids, int64_t n, std::string* error) {
  if (int status = check_ids(ids, n, error)) return status;
  int* const counts = call_of(*backend, slot).counts;
  memset(counts, 0, sizeof(int) * kModel.vocab);
  for (int64_t i = 0; i < n; ++i) counts[ids[i]] = kInPrompt;
  return kStatusOk;
}

int backend_bias(Backend* backend, int32_t slot, const int32_t* ids, const float* biases, int64_t n, std::string* error) {
  if (int status = check_ids(ids, n, error)) return status;
  std::vector<float>& bias = backend->biases[slot];
  bias.clear();
  backend->masks[slot].clear();
  for (int row = 1; row < kMostChecked; ++row) backend->masks[mask_at(*backend, slot, row)].clear();
  if (n > 0) bias.resize(kModel.vocab);
  for (int64_t i = 0; i < n; ++i) bias[ids[i]] = biases[i];
  return kStatusOk;
}

int backend_mask(Backend* backend, int32_t slot, int32_t row, const uint32_t* words, int32_t vocab, std::string*) {
  std::vector<uint32_t>& mask = backend->masks[mask_at(*backend, slot, row)];
  mask.clear();
  if (words == nullptr) return kStatusOk;
  mask.assign(words, words + (vocab + 31) / 32);
  mask.resize((kModel.vocab + 31) / 32);
  return kStatusOk;
}

int32_t backend_prompt_tokens(Backend*) { return 0; }

int32_t backend_prompt_least(Backend*) { return 0; }

bool backend_prompt_logits(Backend*) { return false; }

bool backend_asks(Backend*) { return true; }

int32_t backend_steps(Backend*) { return 1; }

int32_t backend_check_tokens(Backend* backend) { return backend->path.kernel->splits == 1 ? std::min(kModel.pass_tokens, kMostChecked) : 0; }

int32_t backend_check_tokens_at(Backend* backend, int32_t) { return std::max(1, backend_check_tokens(backend)); }

int32_t backend_rows(Backend*) { return std::min<int32_t>(kModel.pass_tokens, kMostSequences); }

Drafter* backend_drafter(Backend*) { return nullptr; }

void backend_stop(Backend*) {}

int backend_enqueue(Backend* backend, const PassRequest& request, std::string* error) {
  if (backend->jobs.size() == kMaxOutstanding) {
    *error = std::to_string(kMaxOutstanding) + " passes are outstanding; wait for one first";
    return kStatusBusy;
  }
  const Bounds bounds{backend->sequences, backend->bound.context, backend_check_tokens(backend), backend_rows(backend)};
  if (const int status = check_request(request, bounds, error)) return status;
  const int count = request.ids ? request.count : 1;
  Job job{call_of(*backend, request.rows ? 0 : request.slot), {}, request.check, {}, {}, request.slot, request.may_choose};
  for (int i = 0; request.rows && i < count; ++i) {
    job.rows.push_back(request.rows[i]);
    job.samplings.push_back(*request.rows[i].sampling);
  }
  job.call.tokens = count;
  job.call.position = request.position;
  job.call.first_logits = request.first_logits;
  job.call.sample = request.sample;
  if (request.sampling) job.call.sampling = *request.sampling;
  if (request.ids) job.ids.assign(request.ids, request.ids + count);
  backend->jobs.push_back(std::move(job));
  return kStatusOk;
}

/** What the tokens of a job are chosen by, as it is now. */
static void bind_choices(Backend& backend, const Job& job) {
  backend.choices[0] = choice_of(backend, job.slot);
  for (int row = 1; job.check && row < job.call.tokens; ++row) backend.choices[row] = choice_of(backend, job.slot, row);
  for (size_t row = 0; row < job.rows.size(); ++row) backend.choices[row] = choice_of(backend, job.rows[row].slot);
  backend.threads.team.choices = backend.choices.data();
}

/** May_choose of the job that runs; what it throws is thrown behind the pass. */
struct Question {
  Backend* backend;
  Job* job;
  std::exception_ptr failure;

  static bool ask(void* asked) {
    auto& [backend, job, failure] = *static_cast<Question*>(asked);
    const int64_t begin = clock_now(CLOCK_MONOTONIC);
    bool may_choose = false;
    try {
      may_choose = job->may_choose();
    } catch (...) {
      failure = std::current_exception();
    }
    backend->threads.set_apart(clock_now(CLOCK_MONOTONIC) - begin);
    bind_choices(*backend, *job);
    return may_choose;
  }
};

bool backend_ask(Backend*) { return false; }

// A CPU has nothing to overlap a pass with: it runs here, when someone wants its result.
int backend_wait(Backend* backend, int32_t* token, std::string* error) {
  *token = -1;
  if (backend->jobs.empty()) {
    *error = "no pass is outstanding";
    return kStatusInternal;
  }
  Job job = std::move(backend->jobs.front());
  backend->jobs.pop_front();
  if (job.ids.empty()) {
    backend->ids[0] = *backend->next;
  } else {
    memcpy(backend->ids, job.ids.data(), job.ids.size() * sizeof(int32_t));
  }
  Team& team = backend->threads.team;
  team.drafts = backend->ids + 1;
  team.draft_count = job.check ? job.call.tokens - 1 : 0;
  for (size_t i = 0; i < job.rows.size(); ++i) job.rows[i].sampling = &job.samplings[i];
  team.rows = job.rows.empty() ? nullptr : job.rows.data();
  bind_choices(*backend, job);
  Question question{backend, &job, nullptr};
  team.may_choose = job.may_choose ? Question::ask : nullptr;
  team.asked = &question;
  team.chooses = true;
  backend->threads.run(job.call);
  if (question.failure) std::rethrow_exception(question.failure);
  backend->logits_rows = job.call.tokens - job.call.first_logits;
  backend->chosen.clear();
  if (!team.chooses) {
    *token = kAbandoned;
    return kStatusOk;
  }
  if (team.rows) {
    backend->chosen.assign(backend->next, backend->next + job.call.tokens);
    *token = backend->chosen.front();
    for (size_t i = 0; i < job.rows.size(); ++i) {
      if (backend->chosen[i] >= 0) call_of(*backend, job.rows[i].slot).counts[backend->chosen[i]] += kChosenOnce;
    }
  } else if (job.call.sample) {
    int drafts = 0;
    while (drafts < team.draft_count && backend->next[drafts] == team.drafts[drafts]) ++drafts;
    backend->chosen.assign(backend->next, backend->next + drafts + 1);
    *token = backend->chosen.front();
    *backend->next = backend->chosen.back();
    if (*backend->next >= 0) job.call.counts[*backend->next] += kChosenOnce;
  }
  return kStatusOk;
}

/** The sequence in a slot. */
static char* sequence_of(const Backend& backend, int32_t slot) { return call_of(backend, slot).cache; }

int64_t backend_position_bytes(Backend* backend) { return backend->cache.position_bytes(); }

/** Copies so many positions of each head. */
static void copy_runs(const CacheShape& cache, HeadRuns<char> to, HeadRuns<const char> from, int64_t count) {
  for (int64_t head = 0; head < cache.heads; ++head) {
    memcpy(to.first + head * to.pitch, from.first + head * from.pitch, count * cache.bytes);
  }
}

int backend_copy_positions(Backend* backend, int32_t from, int32_t to, int32_t count, std::string*) {
  const CacheShape& cache = backend->cache;
  const char* const source = sequence_of(*backend, from);
  copy_runs(cache, cache.runs(sequence_of(*backend, to), 0), cache.runs(source, 0), count);
  return kStatusOk;
}

int backend_read_positions(Backend* backend, int32_t slot, int32_t position, int32_t count, void* bytes, std::string*) {
  const CacheShape& cache = backend->cache;
  const char* const sequence = sequence_of(*backend, slot);
  copy_runs(cache, cache.packed_runs(static_cast<char*>(bytes), count), cache.runs(sequence, position), count);
  return kStatusOk;
}

int backend_write_positions(Backend* backend, int32_t slot, int32_t position, int32_t count, const void* bytes, std::string*) {
  const CacheShape& cache = backend->cache;
  copy_runs(cache, cache.runs(sequence_of(*backend, slot), position), cache.packed_runs(static_cast<const char*>(bytes), count), count);
  return kStatusOk;
}

int32_t backend_chosen(Backend* backend, int32_t* out) {
  std::copy(backend->chosen.begin(), backend->chosen.end(), out);
  return static_cast<int32_t>(backend->chosen.size());
}

#if PROFILE
int backend_profile(Backend* backend, std::vector<ProfileEvent>* events, int64_t* missed, std::string*) {
  backend->threads.take_events(events, missed);
  return kStatusOk;
}
#endif

/** Whether the last pass made logits rows [row, row + rows). */
static int has_logits(const Backend& backend, int32_t row, int32_t rows, std::string* error) {
  if (row >= 0 && rows >= 0 && row <= backend.logits_rows - rows) return kStatusOk;
  *error = "rows [" + std::to_string(row) + ", " + std::to_string(row + rows) + ") of logits were asked for; the last pass made " +
           std::to_string(backend.logits_rows);
  return kStatusBadArgument;
}

int backend_logits(Backend* backend, int32_t row, int32_t rows, float* out, std::string* error) {
  const int status = has_logits(*backend, row, rows, error);
  if (status == kStatusOk) memcpy(out, backend->logits + int64_t{row} * kModel.vocab, sizeof(float) * int64_t{rows} * kModel.vocab);
  return status;
}

bool backend_keeps_logits(Backend*) { return false; }

int backend_logits_row(Backend* backend, int32_t row, const float** logits, std::string* error) {
  const int status = has_logits(*backend, row, 1, error);
  if (status == kStatusOk) *logits = backend->logits + int64_t{row} * kModel.vocab;
  return status;
}

std::string backend_device(Backend* backend) {
  const size_t threads = backend->threads.count();
  return std::string("CPU, ") + backend->path.name + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
}
