// The GPU as a backend: memory, uploads and launches on one stream. What differs by the kernel's scheme is in scheme.h.
// All calls come from one thread (see library.cpp), so the GPU that was chosen at first stays its current one.
#include "backend.h"

#include <algorithm>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "arena.h"
#include "cache_rows.h"
#include "calls.h"
#include "device.h"
#include "profile.h"
#include "prompt_launches.h"
#include "scheme.h"
#include "tables.h"
#include "uploads.h"

constexpr int kMaskWords = (kVocab + 31) / 32;

struct Backend {
  explicit Backend(const EngineOptions& options);
  ~Backend() { cudaStreamSynchronize(stream.get()); }

  const Gpu gpu;
  int blocks = 0;  // of a launch
  Pass bound{};    // pointers and sizes; each launch fills in the rest
  const int sequences;
  float* bias = nullptr;      // [sequences][kVocab]
  float* masked = nullptr;    // [rows][kVocab]: biases of a launch, or logits behind it, of which some may not be chosen
  // [sequences + drafts][kMaskWords], pinned: of each sequence, and behind each draft of a check. They are changed when the tokens chosen by those
  // before are known, so that no kernel reads these any more.
  unsigned* masks = nullptr;
  float* kept_logits = nullptr;  // [kMaxOutstanding][kVocab], pinned: of launches that keep them
  std::vector<char> has_bias;   // of each sequence
  std::vector<int> mask_vocab;  // of each mask: the tokens of which it says something; 0: of none
  const Stream stream;
  DeviceMemory memory;  // everything that stays on the GPU
  PinnedMemory pinned;  // everything that stays on the host
  Scheme scheme;
  PromptLaunches prompts;
  Uploads uploads;
  LaunchInts ids;  // [kPassTokens] each, or as many as a prompt's launch has

  Event finished[kMaxOutstanding];
  std::list<Launch> launches;  // in their order
  int64_t begun = 0;            // launches
  int logits_rows = 0;          // of the launch that ended last
  const float* kept = nullptr;  // its row of logits, where it has kept that
  int prompt_first = -1;        // token of the first of these rows, where they are still to be made
  std::vector<int32_t> chosen;  // by the launch that was waited for last
};

namespace {

/** Elements of the cache of a sequence. */
int64_t cache_of_slot(const Backend& b) { return int64_t{kLayers} * kKvHeads * b.bound.context * b.scheme.needs().position_size; }

CacheShape cache_shape(const Backend& b) {
  return {int64_t{kLayers} * kKvHeads, b.bound.context, b.scheme.needs().position_size * int64_t{sizeof(Cache)}};
}

/** The sequence in a slot. */
char* sequence_of(const Backend& b, int slot) { return reinterpret_cast<char*>(b.bound.cache + slot * cache_of_slot(b)); }

/** Copies so many positions of each head in the order of the stream, by one call: one for each head takes longer than a pass does. Any thread may. */
void copy_runs(const Backend& b, HeadRuns<char> to, HeadRuns<const char> from, int64_t count, cudaMemcpyKind kind) {
  CUDA(cudaSetDevice(b.gpu.index));
  if (count == 0) return;
  const CacheShape cache = cache_shape(b);
  CUDA(cudaMemcpy2DAsync(to.first, to.pitch, from.first, from.pitch, count * cache.bytes, cache.heads, kind, b.stream.get()));
}

/** What its reply adds to the logits [kVocab]; null where that is nothing. */
const float* bias_of(const Backend& b, int slot) { return b.has_bias[slot] ? b.bias + int64_t{slot} * kVocab : nullptr; }

/** The most drafts of a launch. */
int most_drafts(const Backend& b) { return std::max(0, b.scheme.check_tokens() - 1); }

/** The mask of a sequence among all, or behind a draft of its launch. */
int mask_at(const Backend& b, int slot, int row) { return row == 0 ? slot : b.sequences + row - 1; }

const unsigned* mask_of(const Backend& b, int at) { return b.mask_vocab[at] > 0 ? b.masks + int64_t{at} * kMaskWords : nullptr; }

/** What its reply adds to the logits of the next launch, and -infinity where its mask has no bit. */
const float* masked_bias_of(const Backend& b, int slot) {
  const unsigned* const mask = mask_of(b, slot);
  if (!mask) return bias_of(b, slot);
  float* const masked = b.masked + int64_t{slot} * kVocab;
  check_cuda(kernel_mask(mask, bias_of(b, slot), b.mask_vocab[slot], masked, b.stream.get()), "kernel_mask");
  return masked;
}

/** Gives everything that stays its piece of memory; arenas that measure tell how much that is. */
void bind(Backend& b, Arena& device, Arena& pinned) {
  Pass& pass = b.bound;
  b.scheme.bind(pass, b.sequences, device, pinned);
  b.prompts.bind(pass.context, device, pinned);
  pass.cache = device.take<Cache>(b.sequences * cache_of_slot(b));
  pass.rope = device.take<float>(int64_t{pass.context} * kHeadDim);
  pass.logits = device.take<float>(int64_t{kPassTokens} * kVocab);
  pass.counts = device.take<int>(int64_t{b.sequences} * kVocab);
  b.bias = device.take<float>(int64_t{b.sequences} * kVocab);
  b.masked = device.take<float>(int64_t{std::max(b.sequences, 1 + most_drafts(b))} * kVocab);
  b.masks = pinned.take<unsigned>(int64_t{b.sequences + most_drafts(b)} * kMaskWords);
  b.kept_logits = pinned.take<float>(int64_t{kMaxOutstanding} * kVocab);
#if PROFILE
  pass.profile = device.take<ProfileMark>(int64_t{b.blocks} * kBlockTracks * kTrackMarks);
#endif
  b.ids.bind(device, pinned, std::max(kPassTokens, PromptLaunches::kMostTokens));
  b.uploads.bind(pinned);
}

void allocate(Backend& b) {
  const SchemeBase::Needs needs = b.scheme.needs();
  const int64_t cache_bytes = b.sequences * cache_of_slot(b) * int64_t{sizeof(Cache)};
  Arena device, pinned;
  bind(b, device, pinned);
  const auto device_bytes = static_cast<int64_t>(device.at), pinned_bytes = static_cast<int64_t>(pinned.at);

  size_t free_bytes = 0, all_bytes = 0;
  CUDA(cudaMemGetInfo(&free_bytes, &all_bytes));
  const int64_t most_bytes = device_bytes + needs.loading_bytes;
  if (most_bytes > static_cast<int64_t>(free_bytes)) {
    const std::string loading = needs.loading_bytes > 0 ? ", while loading " + gibibytes(needs.loading_bytes) : "";
    const std::string slots = b.sequences > 1 ? std::to_string(b.sequences) + " sequences of " : "";
    throw Failure{kStatusOutOfMemory, "the model needs " + gibibytes(most_bytes) + " of GPU memory (weights " +
                                          gibibytes(needs.weight_bytes) + ", KV cache for " + slots + std::to_string(b.bound.context) + " positions " +
                                          gibibytes(cache_bytes) + loading + "), " + gibibytes(free_bytes) + " are free"};
  }
  b.memory = device_memory(device_bytes);
  b.pinned = pinned_memory(pinned_bytes);
  CUDA(cudaMemsetAsync(b.memory.get(), 0, device_bytes, b.stream.get()));
  device = {reinterpret_cast<uintptr_t>(b.memory.get())};
  pinned = {reinterpret_cast<uintptr_t>(b.pinned.get())};
  bind(b, device, pinned);
}

/** Joins a launch that has ended as the event after it says; throws why it failed. */
void end(Backend& b, Launch& launch, cudaError_t status) {
  launch.ended = true;
  b.logits_rows = launch.pass.tokens - launch.pass.first_logits;
  b.kept = launch.keeps ? b.kept_logits + int64_t{launch.slot} * kVocab : nullptr;
  b.prompt_first = launch.prompt && !launch.pass.sample ? launch.pass.first_logits : -1;
  check_cuda(status, launch.prompt ? "prompt" : "decode");
  const std::string failure = launch.prompt ? b.prompts.failure(launch.slot, launch.pass.sample) : b.scheme.failure(launch, b.stream.get());
  if (!failure.empty()) throw Failure{kStatusDevice, failure};
}

/** 1 + the token that a step of a launch has chosen; 0 while there is none. */
unsigned reply_of(const Backend& b, const Launch& launch, int step) {
  return launch.prompt && !launch.pass.sample ? 0 : b.scheme.reply(launch, step);
}

/** Has the logits of a launch chosen from, by the masks and biases that its sequences have now. */
void choose(Backend& b, Launch& launch) {
  std::vector<ChosenBy> rows;
  const auto add = [&](int sequence, int mask) { rows.push_back({bias_of(b, sequence), mask_of(b, mask), b.mask_vocab[mask]}); };
  for (const int sequence : launch.sequences) add(sequence, sequence);
  for (int row = 1; launch.check && row < launch.pass.tokens; ++row) add(launch.sequences[0], mask_at(b, 0, row));
  b.scheme.choose(launch.pass, rows, b.masked, b.stream.get());
}

/** Returns when a step of a launch has its token, or the launch has ended. */
void wait_for_step(Backend& b, Launch& launch, int step) {
  while (!launch.ended && reply_of(b, launch, step) == 0) {
    const cudaError_t status = cudaEventQuery(b.finished[launch.slot].get());
    if (status == cudaErrorNotReady) {
      b.scheme.pause(launch);
    } else {
      end(b, launch, status);
    }
  }
}

/** Asks whether the logits of a launch that chooses nothing may be chosen from, and has that done behind it. */
void ask(Backend& b, Launch& launch) {
  const auto may_choose = std::exchange(launch.may_choose, nullptr);
  const auto waits = [&] { return cudaEventQuery(b.finished[launch.slot].get()) == cudaErrorNotReady; };
  while (!(launch.answered && launch.answered()) && waits()) b.scheme.pause(launch);
  launch.abandoned = !may_choose();
  if (launch.abandoned) return;
  choose(b, launch);
  CUDA(cudaEventRecord(b.finished[launch.slot].get(), b.stream.get()));
}

}  // namespace

Backend::Backend(const EngineOptions& options)
    : gpu(choose_gpu(options.device)), sequences(options.sequences), has_bias(options.sequences), stream(make_stream()), prompts(gpu) {
  check_cuda(kernel_blocks(gpu.index, &blocks), "kernel_blocks");
  if (blocks == 0) throw Failure{kStatusDevice, scheme.misfit(gpu)};
  for (Event& event : finished) event = make_event();
  bound.context = options.context;
  mask_vocab.resize(sequences + most_drafts(*this));
  allocate(*this);
  const std::vector<float> rope = rope_table(options.context);
  uploads.copy(const_cast<float*>(bound.rope), rope.data(), rope.size() * sizeof(float), stream.get());
}

int backend_create(const EngineOptions& options, Backend** out, std::string* error) {
  return guarded(error, [&] {
    *out = new Backend(options);
  });
}

void backend_destroy(Backend* backend) { delete backend; }

int backend_write(Backend* backend, int64_t offset, const void* data, int64_t bytes, std::string* error) {
  return guarded(error, [&] {
    const char* const from = static_cast<const char*>(data);
    for (int64_t at = 0, piece = 0; at < bytes; at += piece) {
      const SchemeBase::Place place = backend->scheme.place(offset + at);
      piece = std::min(place.bytes, bytes - at);
      backend->uploads.copy(place.to, from + at, piece, backend->stream.get());
      backend->scheme.written(offset + at + piece, backend->stream.get());
    }
  });
}

int backend_finish_load(Backend* backend, std::string* error) {
  return guarded(error, [&] {
    backend->scheme.finish_load(backend->stream.get());
    CUDA(cudaStreamSynchronize(backend->stream.get()));
  });
}

void* backend_map(Backend*, int64_t) { return nullptr; }

int backend_counts(Backend* backend, int32_t slot, const int32_t* ids, int64_t n, std::string* error) {
  return guarded(error, [&] {
    const std::vector<int> counts = prompt_counts(ids, n);
    backend->uploads.copy(backend->bound.counts + int64_t{slot} * kVocab, counts.data(), counts.size() * sizeof(int), backend->stream.get());
  });
}

int backend_bias(Backend* backend, int32_t slot, const int32_t* ids, const float* biases, int64_t n, std::string* error) {
  return guarded(error, [&] {
    backend->has_bias[slot] = n > 0;
    backend->mask_vocab[slot] = 0;
    std::fill(backend->mask_vocab.begin() + backend->sequences, backend->mask_vocab.end(), 0);
    if (n == 0) return;
    std::vector<float> all(kVocab);
    for (int64_t i = 0; i < n; ++i) all[ids[i]] = biases[i];
    backend->uploads.copy(backend->bias + int64_t{slot} * kVocab, all.data(), all.size() * sizeof(float), backend->stream.get());
  });
}

int backend_mask(Backend* backend, int32_t slot, int32_t row, const uint32_t* words, int32_t vocab, std::string* error) {
  return guarded(error, [&] {
    Backend& b = *backend;
    const int at = mask_at(b, slot, row);
    b.mask_vocab[at] = words ? vocab : 0;
    if (words) std::copy_n(words, (vocab + 31) / 32, b.masks + int64_t{at} * kMaskWords);
  });
}

int32_t backend_prompt_tokens(Backend*) { return PromptLaunches::kMostTokens; }

int32_t backend_prompt_least(Backend*) { return PromptLaunches::kLeastTokens; }

bool backend_prompt_logits(Backend*) { return PromptLaunches::kMakesLogits; }

bool backend_asks(Backend* backend) { return backend->scheme.chooses_behind(); }

int32_t backend_steps(Backend* backend) { return backend->scheme.most_steps(backend->bound.context); }

int32_t backend_check_tokens(Backend* backend) { return backend->scheme.check_tokens(); }

int32_t backend_check_tokens_at(Backend* backend, int32_t position) { return backend->scheme.check_tokens_at(position); }

int32_t backend_rows(Backend* backend) { return backend->sequences > 1 ? backend->scheme.most_rows() : 1; }

Drafter* backend_drafter(Backend*) { return nullptr; }

int32_t backend_chosen(Backend* backend, int32_t* out) {
  std::copy(backend->chosen.begin(), backend->chosen.end(), out);
  return static_cast<int32_t>(backend->chosen.size());
}

int64_t backend_position_bytes(Backend* backend) { return cache_shape(*backend).position_bytes(); }

int backend_copy_positions(Backend* backend, int32_t from, int32_t to, int32_t count, std::string* error) {
  const Backend& b = *backend;
  return guarded(error, [&] {
    const CacheShape cache = cache_shape(b);
    const char* const source = sequence_of(b, from);
    copy_runs(b, cache.runs(sequence_of(b, to), 0), cache.runs(source, 0), count, cudaMemcpyDeviceToDevice);
  });
}

int backend_read_positions(Backend* backend, int32_t slot, int32_t position, int32_t count, void* bytes, std::string* error) {
  const Backend& b = *backend;
  return guarded(error, [&] {
    const CacheShape cache = cache_shape(b);
    const char* const sequence = sequence_of(b, slot);
    copy_runs(b, cache.packed_runs(static_cast<char*>(bytes), count), cache.runs(sequence, position), count, cudaMemcpyDeviceToHost);
    CUDA(cudaStreamSynchronize(b.stream.get()));
  });
}

int backend_write_positions(Backend* backend, int32_t slot, int32_t position, int32_t count, const void* bytes, std::string* error) {
  const Backend& b = *backend;
  return guarded(error, [&] {
    const CacheShape cache = cache_shape(b);
    const char* const from = static_cast<const char*>(bytes);
    copy_runs(b, cache.runs(sequence_of(b, slot), position), cache.packed_runs(from, count), count, cudaMemcpyHostToDevice);
    CUDA(cudaStreamSynchronize(b.stream.get()));
  });
}

void backend_stop(Backend* backend) { backend->scheme.set_stop(true); }

int backend_enqueue(Backend* backend, const PassRequest& request, std::string* error) {
  return guarded(error, [&] {
    Backend& b = *backend;
    const cudaStream_t stream = b.stream.get();
    if (b.launches.empty()) b.scheme.set_stop(false);
    const bool batch = request.rows && request.count > 1;  // one row is a pass of its own
    const auto slot = static_cast<int>(b.begun % kMaxOutstanding);
    std::list<Launch> made;  // whole before it runs: behind that, nothing is allocated that could fail
    made.push_back({b.bound, slot, request.steps, request.count > kPassTokens, request.check, batch, {}, request.answered, request.may_choose});
    Launch& launch = made.back();
    for (int i = 0; i < (batch ? request.count : 1); ++i) launch.sequences.push_back(batch ? request.rows[i].slot : request.slot);
    const bool chooses = request.sample && !launch.may_choose;  // without being asked
    Pass& pass = launch.pass;
    if (!batch) {
      pass.cache += request.slot * cache_of_slot(b);
      pass.counts += int64_t{request.slot} * kVocab;
    }
    pass.tokens = request.count;
    pass.position = request.position;
    pass.first_logits = request.first_logits;
    pass.sample = request.sample;
    if (request.sampling) pass.sampling = *request.sampling;
    if (request.ids && !batch) pass.ids = b.ids.send(launch.slot, request.ids, request.count, stream);
    if (launch.prompt) {
      b.scheme.address(pass, request, launch.slot);
      b.prompts.launch(pass, launch.slot, stream);
      if (chooses) choose(b, launch);
    } else {
      PassRequest made = request;
      std::vector<Row> rows;
      if (batch) rows.assign(request.rows, request.rows + request.count);
      const auto bias = [&](int slot) { return chooses ? masked_bias_of(b, slot) : bias_of(b, slot); };
      if (!batch) pass.bias = bias(request.slot);
      for (Row& row : rows) row.bias = bias(row.slot);
      made.rows = batch ? rows.data() : nullptr;
      b.scheme.prepare(pass, made, launch.slot, stream);
      if (!request.ids) pass.ids = pass.next;
      Pass launched = pass;
      launched.sample = chooses;
      check_cuda(kernel_launch(launched, b.blocks, stream), "kernel_launch");
      b.scheme.collect(launch, stream);
    }
    launch.keeps = request.keep_logits && request.sample && pass.tokens - pass.first_logits == 1;
    if (launch.keeps) {
      float* const kept = b.kept_logits + int64_t{launch.slot} * kVocab;
      CUDA(cudaMemcpyAsync(kept, pass.logits, sizeof(float) * kVocab, cudaMemcpyDeviceToHost, stream));
    }
    CUDA(cudaEventRecord(b.finished[launch.slot].get(), stream));
    b.launches.splice(b.launches.end(), made);
    ++b.begun;
  });
}

bool backend_ask(Backend* backend) {
  Backend& b = *backend;
  Launch& launch = b.launches.front();
  if (launch.may_choose) launch.asked = guarded(&launch.error, [&] { ask(b, launch); });
  return launch.asked == kStatusOk && !launch.abandoned;
}

int backend_wait(Backend* backend, int32_t* token, std::string* error) {
  Backend& b = *backend;
  Launch& launch = b.launches.front();
  const int step = launch.taken++;
  const bool last = launch.taken == launch.steps;
  const int status = guarded(error, [&] {
    backend_ask(backend);
    wait_for_step(b, launch, step);
    // The launch itself must be over before the next one's results count.
    if (last && !launch.ended) end(b, launch, cudaEventSynchronize(b.finished[launch.slot].get()));
    check(launch.asked, launch.error);
  });
  *token = static_cast<int32_t>(reply_of(b, launch, step)) - 1;
  b.chosen.clear();
  for (int i = step; i < (launch.check || launch.batch ? launch.pass.tokens : step + 1) && reply_of(b, launch, i) != 0; ++i) {
    b.chosen.push_back(static_cast<int32_t>(reply_of(b, launch, i)) - 1);
  }
  const bool stopped = launch.prompt && launch.ended && !b.prompts.finished(launch.slot, launch.pass.sample);
  if (stopped || launch.abandoned) *token = kAbandoned;
  if (last) b.launches.pop_front();
  return status;
}

#if PROFILE
int backend_profile(Backend* backend, std::vector<ProfileEvent>* events, int64_t* missed, std::string* error) {
  const Backend& b = *backend;
  return guarded(error, [&] {
    take_events(b.bound.profile, b.blocks, Scheme::kRoles, events, missed, b.stream.get());
    b.prompts.take_events(events, missed, b.stream.get());
  });
}
#endif

int backend_logits(Backend* backend, int32_t row, int32_t rows, float* out, std::string* error) {
  return guarded(error, [&] {
    Backend& b = *backend;
    if (row < 0 || rows < 0 || row > b.logits_rows - rows) {
      fail(kStatusBadArgument, "rows [%d, %d) of logits were asked for; the last pass made %d", row, row + rows, b.logits_rows);
    }
    const cudaStream_t stream = b.stream.get();
    const auto copy = [&](int at, int from, int count) {
      const float* const logits = b.bound.logits + int64_t{from} * kVocab;
      CUDA(cudaMemcpyAsync(out + int64_t{at} * kVocab, logits, sizeof(float) * count * kVocab, cudaMemcpyDeviceToHost, stream));
    };
    if (b.prompt_first < 0) copy(0, row, rows);
    for (int at = 0; b.prompt_first >= 0 && at < rows; at += kPassTokens) {
      const int count = std::min(kPassTokens, rows - at);
      b.prompts.launch_head(b.prompt_first + row + at, count, stream);
      copy(at, 0, count);
    }
    CUDA(cudaStreamSynchronize(stream));
  });
}

bool backend_keeps_logits(Backend*) { return true; }

int backend_logits_row(Backend* backend, int32_t row, const float** logits, std::string* error) {
  *logits = backend->kept ? backend->kept : backend->kept_logits;
  return backend->kept && row == 0 ? kStatusOk : backend_logits(backend, row, 1, backend->kept_logits, error);
}

std::string backend_device(Backend* backend) { return backend->gpu.name + ", " + std::to_string(backend->blocks) + " blocks"; }
