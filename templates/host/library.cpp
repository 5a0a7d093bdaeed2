// The exported functions: every argument is checked here, then the work goes to the engine's thread.
// All calls to the backend come from that thread, so a backend may keep state of its own there (CUDA's current device).
#include <algorithm>
#include <climits>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "abi.h"
#include "backend.h"
#include "batch.h"
#include "channel.h"
#include "draft_tokens.h"
#include "errors.h"
#include "generate.h"
#include "job.h"
#include "loader.h"
#include "model_facts.h"
#include "open_engines.h"

/** While a job runs, or passes of sequences do, the thread owns backend, sequence, loaded, logits, pass_times and drafts; otherwise the caller does. */
struct Engine {
  Engine(const EngineOptions& given, std::unique_ptr<Channel> end) : options(given), channel(std::move(end)) {
    thread.run([this] {
      std::string error;
      check(backend_create(options, &backend, &error), error);
      device = backend_device(backend);
    });
  }

  ~Engine() {
    thread.stop();
    batch.look_again();
    if (backend) backend_stop(backend);
    thread.wait();
    std::string error;
    guarded(&error, [this] { thread.run([this] { backend_destroy(backend); }); });
    channel->hang_up();
    if (watcher.get_id() == std::this_thread::get_id()) {
      watcher.detach();
    } else if (watcher.joinable()) {
      watcher.join();
    }
  }

  const EngineOptions options;
  const std::unique_ptr<Channel> channel;
  Backend* backend = nullptr;
  std::string device;
  Sequence sequence;
  bool loaded = false;
  Batch batch{*channel, options.sequences, options.context};
  bool serves = false;  // what the thread runs, or ran last, are passes of sequences
  std::vector<float> logits;  // of the last score, until they are fetched
  PassTimes pass_times;
  PassTimes masked_times;  // of replies that wait for masks
  DraftEngine drafts;
#if PROFILE
  std::vector<ProfileEvent> events;  // until they are fetched
  int64_t missed_events = 0;
#endif
  std::string error;
  JobThread thread{*channel};
  std::thread watcher;  // closes the engine when its caller is gone
};

using Engines = OpenEngines<Engine>;

namespace {

/** The slot by which that of the engine's own jobs is named. */
constexpr int32_t kOwnSequence = -1;

thread_local std::string create_error;

/** Runs body for an engine; what it throws becomes the status and the engine's error text. */
template <class Body>
int32_t call(Engine* engine, Body&& body) noexcept {
  if (engine == nullptr) return kStatusBadArgument;
  return guarded(&engine->error, body);
}

void require(bool condition, const char* text) {
  if (!condition) throw Failure{kStatusBadArgument, text};
}

std::vector<int32_t> copy_ids(const void* ids, int32_t count, const char* what) {
  if (count < 0) fail(kStatusBadArgument, "%s: count is %d", what, count);
  if (count > 0 && ids == nullptr) fail(kStatusBadArgument, "%s is null", what);
  const auto* first = static_cast<const int32_t*>(ids);
  std::vector<int32_t> copy(first, first + count);
  for (int32_t i = 0; i < count; ++i) {
    if (copy[i] < 0 || copy[i] >= kModel.vocab) {
      fail(kStatusBadArgument, "%s[%d] is %d; tokens are 0 to %d", what, i, copy[i], kModel.vocab - 1);
    }
  }
  return copy;
}

void check_sampling(const Sampling& s) {
  require(std::isfinite(s.temperature) && s.temperature >= 0, "temperature is not a number from 0 on");
  require(s.top_k >= 0, "top_k is negative");
  require(s.top_p > 0 && s.top_p <= 1, "top_p is not in (0, 1]");
  require(s.min_p >= 0 && s.min_p <= 1, "min_p is not in [0, 1]");
  require(std::isfinite(s.repetition_penalty) && s.repetition_penalty > 0, "repetition_penalty is not above 0");
  require(std::isfinite(s.presence_penalty), "presence_penalty is not a number");
  require(std::isfinite(s.frequency_penalty), "frequency_penalty is not a number");
  if (s.vocab < 1 || s.vocab > kModel.vocab) fail(kStatusBadArgument, "sampling.vocab is %d, not 1 to %d", s.vocab, kModel.vocab);
}

/** That no job runs, nor a sequence replies. */
void check_idle(Engine& engine) {
  if (engine.serves) {
    if (engine.batch.serving()) fail(kStatusBusy, "the engine is busy: its sequences have jobs");
    engine.thread.wait();  // for a thread that has nothing left to do
    engine.serves = false;
  }
  if (engine.thread.running()) fail(kStatusBusy, "the engine is busy with another job");
}

/** That the engine's own sequence may go on: nothing else runs, weights are there, and count more positions fit. */
void check_ready(Engine& engine, int32_t count) {
  check_idle(engine);
  require(engine.loaded, "no weights are loaded");
  if (engine.batch.is_open(0)) {
    fail(kStatusCapacity, "the engine's own sequence has no place: all %d are open; close one first", engine.options.sequences);
  }
  const int64_t position = static_cast<int64_t>(engine.sequence.size());
  if (position + count > engine.options.context) {
    fail(kStatusCapacity, "%d tokens do not fit: %lld of %d positions are in use", count,
         static_cast<long long>(position), engine.options.context);
  }
}

/** Starts a job; however it ends, the progress then tells the positions in use. */
template <class Job>
void start(Engine& engine, Job job, Masks masks = {}) {
  const bool started = engine.thread.start([&engine, job = std::move(job)] {
    struct Tell {
      Engine& engine;
      ~Tell() {
        engine.thread.report([this](Progress& p) { p.position = static_cast<int32_t>(engine.sequence.size()); });
      }
    } tell{engine};
    job();
  }, std::move(masks));
  if (!started) fail(kStatusBusy, "the engine is busy with another job");
}

/** Has the thread run passes until no sequence replies. */
void serve(Engine& engine) {
  if (engine.serves) engine.thread.wait();  // it has nothing left to do
  try {
    engine.serves = engine.thread.start([&engine] { engine.batch.serve(engine.backend, [&engine] { return engine.thread.stopping(); }); });
  } catch (...) {
    engine.batch.fail_all(kStatusOutOfMemory, "out of memory");
    throw;
  }
}

SourcePacking copy_packing(const TensorSource& source, int32_t index) {
  const Packing& p = source.packing;
  if (!is_packed(source.dtype)) return {};
  const bool plain = p.scales_dtype >= kDtypeBf16 && p.scales_dtype <= kDtypeFp32;
  if (p.scales == nullptr || p.scales_offset < 0 || p.zeros_offset < 0 || !plain || p.group_rows < 1 || p.group_columns < 1 || p.file_rows < 1) {
    fail(kStatusBadArgument, "sources[%d]: codes without scales", index);
  }
  return {p.scales, p.zeros == nullptr ? "" : p.zeros, p.scales_offset, p.zeros_offset, p.scales_dtype, p.group_rows, p.group_columns, p.zeros_added, p.file_rows};
}

Source copy_source(const TensorSource& source, int32_t index) {
  if (source.slot < 0 || source.slot >= kModel.slot_count) {
    fail(kStatusBadArgument, "sources[%d].slot is %d, not 0 to %d", index, source.slot, kModel.slot_count - 1);
  }
  if (source.dtype < kDtypeBf16 || source.dtype > kDtypeAwq4) {
    fail(kStatusBadArgument, "sources[%d].dtype is %d", index, source.dtype);
  }
  if (source.dtype == kDtypeRandom) {
    if (!std::isfinite(source.mean) || !std::isfinite(source.scale) || source.scale < 0) {
      fail(kStatusBadArgument, "sources[%d]: mean %g, scale %g", index, source.mean, source.scale);
    }
  } else if (source.path == nullptr || source.offset < 0) {
    fail(kStatusBadArgument, "sources[%d] has no path, or a negative offset", index);
  }
  if (source.head_rows < 0 || source.head_rows % 2 != 0) {
    fail(kStatusBadArgument, "sources[%d].head_rows is %d, not an even number of rows", index, source.head_rows);
  }
  return {source.path == nullptr ? "" : source.path, source.offset, source.slot, source.dtype, source.head_rows,
          source.seed, source.mean, source.scale, copy_packing(source, index)};
}

std::vector<float> copy_biases(const void* biases, const std::vector<int32_t>& ids) {
  require(biases != nullptr || ids.empty(), "biases is null");
  std::vector<int32_t> sorted = ids;
  std::sort(sorted.begin(), sorted.end());
  require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "a token has two biases");
  const auto* first = static_cast<const float*>(biases);
  std::vector<float> copy(first, first + ids.size());
  for (const float bias : copy) require(std::isfinite(bias), "a bias is not a number");
  return copy;
}

GenerateJob copy_job(const GenerateArgs* args) {
  require(args != nullptr, "args is null");
  require(args->max_tokens >= 1, "max_tokens is not at least 1");
  if (args->stop_count > kMostStops) fail(kStatusBadArgument, "%d stop ids were given; there may be %d", args->stop_count, kMostStops);
  check_sampling(args->sampling);
  require(args->draft_tokens >= -1, "draft_tokens is below -1");
  require(args->draft_ngram >= 1 || args->draft_tokens == 0, "draft_ngram is not at least 1");
  if (args->top_logprobs < -1 || args->top_logprobs > kMostTopLogprobs) {
    fail(kStatusBadArgument, "top_logprobs is %d, not -1 to %d", args->top_logprobs, kMostTopLogprobs);
  }
  require(args->masked == 0 || args->masked == 1, "masked is not 0 or 1");
  std::vector<int32_t> bias_ids = copy_ids(args->bias_ids, args->bias_count, "bias_ids");
  return {copy_ids(args->ids, args->count, "ids"), args->max_tokens, copy_ids(args->stop_ids, args->stop_count, "stop_ids"),
          args->sampling, {args->draft_tokens, args->draft_ngram}, bias_ids, copy_biases(args->biases, bias_ids),
          std::min(args->top_logprobs, args->sampling.vocab), args->masked == 1};
}

void give_mask(Masks& masks, const void* words, int32_t count, int32_t expects) {
  require(count >= 0, "count is negative");
  require(expects == 0 || expects == 1, "expects is not 0 or 1");
  masks.give(words, count, expects == 1);
}

void expect(Masks& masks, const void* tokens, int32_t count, const void* words, int32_t width) {
  require(count >= 0 && width >= 0, "count or width is negative");
  masks.expect(static_cast<const int32_t*>(tokens), count, words, width);
}

ScoreJob copy_score(const ScoreArgs* args) {
  require(args != nullptr, "args is null");
  require(args->count >= 1, "there are no ids");
  require(args->first >= 0 && args->first <= args->count, "first is not in [0, count]");
  return {copy_ids(args->ids, args->count, "ids"), args->first};
}

void copy_logits(const std::vector<float>& logits, void* out, int32_t rows) {
  require(rows >= 0 && (out != nullptr || rows == 0), "out is null, or rows is negative");
  const auto vocab = static_cast<size_t>(kModel.vocab);
  if (logits.size() != static_cast<size_t>(rows) * vocab) {
    fail(kStatusBadArgument, "%d rows of logits were asked for, and there are %zu", rows, logits.size() / vocab);
  }
  std::copy(logits.begin(), logits.end(), static_cast<float*>(out));
}

/** take(ids, log probabilities, capacity) of the last tokens. */
template <class Take>
void take_logprobs(void* ids, void* logprobs, int32_t capacity, Take&& take) {
  require(capacity >= 0 && ((ids != nullptr && logprobs != nullptr) || capacity == 0), "ids or logprobs is null, or capacity is negative");
  take(static_cast<int32_t*>(ids), static_cast<float*>(logprobs), capacity);
}

int load_threads(const EngineOptions& options) {
  const int wanted = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  return std::min(std::max(wanted, 1), 16);
}

void load(Engine& engine, const std::vector<Source>& sources) {
  engine.loaded = false;
  engine.sequence.clear();
  engine.thread.report([](Progress& progress) { progress.total = kModel.weight_bytes; });
  Files files;
  const std::vector<Tensor> tensors = match_sources(kModel, sources, files);
  engine.loaded = load_weights(
      engine.backend, tensors, kModel.weight_bytes, load_threads(engine.options), [&] { return engine.thread.stopping(); },
      [&](int64_t done) { engine.thread.report([&](Progress& progress) { progress.done = done; }); });
  if (!engine.loaded) engine.thread.report([](Progress& progress) { progress.finish = kFinishAborted; });
}

/** DraftFunction of this library's engines. None of an engine that is closed. */
int32_t draft_here(void* handle, const GenerateArgs* args, int32_t* out, bool (*stopping)(void*), void* of) {
  auto* const engine = static_cast<Engine*>(handle);
  int32_t made = 0, status = kStatusOk;
  Engines::all().use(engine, [&] {
    status = call(engine, [&] {
      const GenerateJob job = copy_job(args);
      require(engine->loaded, "no weights are loaded");
      engine->thread.run([&] {
        made = draft_tokens(engine->backend, engine->sequence, job, engine->options.context, [&] { return stopping(of); }, out);
      });
    });
  });
  return status == kStatusOk ? made : -status;
}

}  // namespace

int32_t ol_describe(Description* out) noexcept {
  if (out == nullptr) return kStatusBadArgument;
  *out = {kAbiVersion, kModel.pass_tokens, kModel.vocab, kModel.slot_count, kModel.weight_bytes, kModel.hash};
  return kStatusOk;
}

int64_t ol_layout(int32_t index) noexcept {
  static constexpr int64_t kLayout[] = {OL_LAYOUT};
  constexpr auto kCount = static_cast<int32_t>(sizeof kLayout / sizeof kLayout[0]);
  return index >= 0 && index < kCount ? kLayout[index] : -1;
}

int32_t ol_channel(void* ends) noexcept {
  return guarded(&create_error, [&] {
    require(ends != nullptr, "ends is null");
    make_channel(static_cast<int32_t*>(ends));
  });
}

int32_t ol_create(const EngineOptions* options, int32_t channel, Engine** out) noexcept {
  return guarded(&create_error, [&] {
    auto end = std::make_unique<Channel>(channel);
    require(options != nullptr && out != nullptr, "options or out is null");
    if (options->context < 1) fail(kStatusBadArgument, "context is %d, not at least 1", options->context);
    if (options->threads < 0) fail(kStatusBadArgument, "threads is %d", options->threads);
    if (options->device < 0) fail(kStatusBadArgument, "device is %d", options->device);
    if (options->sequences < 1 || options->sequences > kMostSequences) {
      fail(kStatusBadArgument, "sequences is %d, not 1 to %d", options->sequences, kMostSequences);
    }
    if (options->isa < 0 || options->isa > 4) fail(kStatusBadArgument, "isa is %d, not 0 to 4", options->isa);
    *out = nullptr;
    stay_loaded();
    auto engine = std::make_unique<Engine>(*options, std::move(end));
    engine->watcher = std::thread([engine = engine.get()] {
      engine->channel->wait_for_end();
      Engines::all().close(engine);
    });
    Engines::all().add(engine.get());
    *out = engine.release();
  });
}

int32_t ol_load(Engine* engine, const TensorSource* sources, int32_t count) noexcept {
  return call(engine, [&] {
    require(sources != nullptr && count > 0, "there are no sources");
    std::vector<Source> copies;
    for (int32_t i = 0; i < count; ++i) copies.push_back(copy_source(sources[i], i));
    check_idle(*engine);
    require(!engine->batch.any_open(), "sequences are open, and weights make them void: close them first");
    start(*engine, [engine, copies = std::move(copies)] { load(*engine, copies); });
  });
}

int32_t ol_generate(Engine* engine, const GenerateArgs* args) noexcept {
  return call(engine, [&] {
    GenerateJob job = copy_job(args);
    require(args->count >= 1, "the prompt is empty");
    check_ready(*engine, args->count);
    require(args->draft_tokens <= 0 || backend_check_tokens(engine->backend) > 1,
            "speculate: this engine cannot check drafts, since its passes of several tokens round other than those of one; leave it out, or say off");
    Masks masks(job.masked, job.sampling.vocab);
    const auto reply = [engine, job = std::move(job)] {
      PassTimes& times = job.masked ? engine->masked_times : engine->pass_times;
      generate(engine->backend, engine->thread, engine->sequence, job, engine->options.context, times, engine->drafts);
    };
    start(*engine, reply, std::move(masks));
  });
}

int64_t ol_drafter() noexcept { return static_cast<int64_t>(reinterpret_cast<intptr_t>(&draft_here)); }

int32_t ol_draft_with(Engine* engine, void* draft, void* drafter, int32_t vocab) noexcept {
  return call(engine, [&] {
    require(draft != nullptr && drafter != nullptr, "draft or drafter is null");
    require(draft != engine, "an engine cannot draft for itself");
    require(vocab >= 1, "vocab is not at least 1");
    check_idle(*engine);
    engine->drafts = {draft, reinterpret_cast<DraftFunction>(drafter), vocab};
  });
}

int32_t ol_score(Engine* engine, const ScoreArgs* args) noexcept {
  return call(engine, [&] {
    const ScoreJob job = copy_score(args);
    check_ready(*engine, args->count);
    start(*engine, [engine, job] {
      engine->logits = {};  // a score that fails has none
      engine->logits = score(engine->backend, engine->thread, engine->sequence, job);
    });
  });
}

int32_t ol_logits(Engine* engine, void* out, int32_t rows) noexcept {
  return call(engine, [&] {
    check_idle(*engine);
    copy_logits(std::exchange(engine->logits, {}), out, rows);
  });
}

int32_t ol_poll(Engine* engine, Progress* out, void* tokens, int32_t capacity) noexcept {
  return call(engine, [&] {
    require(out != nullptr, "out is null");
    require(capacity >= 0 && (tokens != nullptr || capacity == 0), "tokens is null, or capacity is negative");
    *out = engine->thread.poll(static_cast<int32_t*>(tokens), capacity);
    if (out->state == kJobFailed) engine->error = engine->thread.error();
  });
}

int32_t ol_logprobs(Engine* engine, void* ids, void* logprobs, int32_t capacity) noexcept {
  return call(engine, [&] { take_logprobs(ids, logprobs, capacity, [&](auto... to) { engine->thread.take_logprobs(to...); }); });
}

int32_t ol_mask(Engine* engine, void* words, int32_t count, int32_t expects) noexcept {
  return call(engine, [&] {
    require(!engine->serves, "the reply waits for no masks");
    engine->thread.edit_masks([&](Masks& masks) { give_mask(masks, words, count, expects); });
  });
}

int32_t ol_expect(Engine* engine, void* tokens, int32_t count, void* words, int32_t width) noexcept {
  return call(engine, [&] {
    require(!engine->serves, "the reply waits for no masks");
    engine->thread.edit_masks([&](Masks& masks) { expect(masks, tokens, count, words, width); });
  });
}

int32_t ol_stop(Engine* engine) noexcept {
  return call(engine, [&] {
    engine->thread.stop();
    engine->batch.look_again();
    backend_stop(engine->backend);
  });
}

int32_t ol_reset(Engine* engine, int32_t length) noexcept {
  return call(engine, [&] {
    check_idle(*engine);
    const auto position = static_cast<int32_t>(engine->sequence.size());
    if (length < 0 || length > position) {
      fail(kStatusBadArgument, "cannot reset to %d: the positions in use are 0 to %d", length, position);
    }
    engine->sequence.resize(static_cast<size_t>(length));
    engine->thread.report([&](Progress& progress) { progress.position = length; });
  });
}

int32_t ol_sequence_open(Engine* engine, void* slot) noexcept {
  return call(engine, [&] {
    require(slot != nullptr, "slot is null");
    if (!engine->serves && engine->thread.running()) fail(kStatusBusy, "the engine is busy with another job");
    require(engine->loaded, "no weights are loaded");
    *static_cast<int32_t*>(slot) = engine->batch.open(engine->sequence.empty());
  });
}

int32_t ol_sequence_generate(Engine* engine, int32_t slot, const GenerateArgs* args) noexcept {
  return call(engine, [&] {
    GenerateJob job = copy_job(args);
    require(args->count >= 1, "the prompt is empty");
    require(args->draft_tokens <= 0 || checks_alone(engine->backend), "speculate: passes of several sequences check no drafts here; leave it out, or say off");
    if (!engine->serves && engine->thread.running()) fail(kStatusBusy, "the engine is busy with another job");
    if (engine->batch.generate(slot, std::move(job))) serve(*engine);
  });
}

int32_t ol_sequence_score(Engine* engine, int32_t slot, const ScoreArgs* args) noexcept {
  return call(engine, [&] {
    const ScoreJob job = copy_score(args);
    if (!engine->serves && engine->thread.running()) fail(kStatusBusy, "the engine is busy with another job");
    if (engine->batch.score(slot, job)) serve(*engine);
  });
}

int32_t ol_sequence_logits(Engine* engine, int32_t slot, void* out, int32_t rows) noexcept {
  return call(engine, [&] { copy_logits(engine->batch.take_logits(slot), out, rows); });
}

int32_t ol_sequence_poll(Engine* engine, int32_t slot, Progress* out, void* tokens, int32_t capacity) noexcept {
  return call(engine, [&] {
    require(out != nullptr, "out is null");
    require(capacity >= 0 && (tokens != nullptr || capacity == 0), "tokens is null, or capacity is negative");
    *out = engine->batch.poll(slot, static_cast<int32_t*>(tokens), capacity, &engine->error);
  });
}

int32_t ol_sequence_logprobs(Engine* engine, int32_t slot, void* ids, void* logprobs, int32_t capacity) noexcept {
  return call(engine, [&] { take_logprobs(ids, logprobs, capacity, [&](auto... to) { engine->batch.take_logprobs(slot, to...); }); });
}

int32_t ol_sequence_mask(Engine* engine, int32_t slot, void* words, int32_t count, int32_t expects) noexcept {
  return call(engine, [&] { engine->batch.edit_masks(slot, [&](Masks& masks) { give_mask(masks, words, count, expects); }); });
}

int32_t ol_sequence_expect(Engine* engine, int32_t slot, void* tokens, int32_t count, void* words, int32_t width) noexcept {
  return call(engine, [&] { engine->batch.edit_masks(slot, [&](Masks& masks) { expect(masks, tokens, count, words, width); }); });
}

int32_t ol_sequence_stop(Engine* engine, int32_t slot) noexcept {
  return call(engine, [&] { engine->batch.stop(slot); });
}

int32_t ol_sequence_reset(Engine* engine, int32_t slot, int32_t length) noexcept {
  return call(engine, [&] { engine->batch.reset(slot, length); });
}

int32_t ol_sequence_close(Engine* engine, int32_t slot) noexcept {
  return call(engine, [&] { engine->batch.close(slot); });
}

int64_t ol_cache_bytes(Engine* engine) noexcept { return engine == nullptr ? -1 : backend_position_bytes(engine->backend); }

int32_t ol_sequence_copy(Engine* engine, int32_t slot, int32_t source, int32_t length) noexcept {
  return call(engine, [&] { engine->batch.copy(engine->backend, slot, source, length); });
}

int32_t ol_cache_read(Engine* engine, int32_t slot, int32_t position, int32_t count, void* out) noexcept {
  return call(engine, [&] {
    require(out != nullptr, "out is null");
    if (slot != kOwnSequence) return engine->batch.read(engine->backend, slot, position, count, out);
    check_idle(*engine);
    const auto end = static_cast<int64_t>(engine->sequence.size());
    if (position < 0 || count < 0 || position > end - count) {
      fail(kStatusBadArgument, "there are no %d positions from %d on: those in use are 0 to %lld", count, position, static_cast<long long>(end));
    }
    std::string error;
    check(backend_read_positions(engine->backend, 0, position, count, out, &error), error);
  });
}

int32_t ol_cache_write(Engine* engine, int32_t slot, void* ids, int32_t count, void* bytes) noexcept {
  return call(engine, [&] {
    require(bytes != nullptr, "bytes is null");
    const std::vector<int32_t> tokens = copy_ids(ids, count, "ids");
    if (slot != kOwnSequence) return engine->batch.write(engine->backend, slot, tokens, bytes);
    check_ready(*engine, count);
    const auto position = static_cast<int32_t>(engine->sequence.size());
    std::string error;
    check(backend_write_positions(engine->backend, 0, position, count, bytes, &error), error);
    engine->sequence.insert(engine->sequence.end(), tokens.begin(), tokens.end());
    engine->thread.report([&](Progress& progress) { progress.position = position + count; });
  });
}

int32_t ol_profile(Engine* engine, void* events, int32_t capacity, void* counts) noexcept {
  return call(engine, [&] {
    require(counts != nullptr && capacity >= 0 && (events != nullptr || capacity == 0), "counts or events is null, or capacity is negative");
#if PROFILE
    Engine& e = *engine;
    check_idle(e);
    const auto position = static_cast<int32_t>(e.sequence.size());
    e.thread.run([&e] {
      std::string error;
      check(backend_profile(e.backend, &e.events, &e.missed_events, &error), error);
    });
    e.thread.report([&](Progress& progress) { progress.position = position; });
    const auto most = [](int64_t n) { return static_cast<int32_t>(std::min<int64_t>(n, INT_MAX)); };
    auto* const told = static_cast<int32_t*>(counts);
    told[0] = most(static_cast<int64_t>(e.events.size()));
    told[1] = most(e.missed_events);
    if (capacity < told[0]) return;
    std::copy(e.events.begin(), e.events.end(), static_cast<ProfileEvent*>(events));
    e.events.clear();
    e.missed_events = 0;
#else
    fail(kStatusBadArgument, "the library was not built for profiling");
#endif
  });
}

const char* ol_device(Engine* engine) noexcept { return engine == nullptr ? "" : engine->device.c_str(); }

const char* ol_error(Engine* engine) noexcept {
  return engine == nullptr ? create_error.c_str() : engine->error.c_str();
}

void ol_close(Engine* engine) noexcept { Engines::all().close(engine); }
