// The GPU as a backend for stream plans: memory, uploads, packing, and launches that make whole replies.
// Every CUDA call is checked, and its name is in the error.
#include <chrono>
#include <cstdlib>
#include <deque>
#include <thread>

#include "lib/device.h"

extern "C" int kernel_blocks(int device, int* blocks);
extern "C" int kernel_launch(const Pass& pass, void* stream);
extern "C" int kernel_pack(const char* kept, const char* staged, char* to, int layer, void* stream);
extern "C" int64_t kernel_word_bytes(int tokens);

namespace {

/** The longest wait inside a launch [ns]. */
constexpr unsigned long long kBudget = 2'000'000'000ull;
constexpr int kMaxStops = 1024;
constexpr int kSamplerFloats = 8192;
/** Between two looks at a reply: a token takes longer than this on any GPU. */
constexpr std::chrono::microseconds kLook{20};

}  // namespace

/** A launch that is under way or waits to be asked for its tokens. */
struct Launch {
  Pass pass;
  int slot;
  int taken = 0;  // steps that have been waited for
  bool ended = false;
};

struct Backend : Device {
  char* staging = nullptr;  // matrices row by row, until they are packed
  int* ids = nullptr;       // [kMaxOutstanding][kPassTokens]
  int* stops = nullptr;     // [kMaxOutstanding][kMaxStops]
  Pass bound{};             // pointers and sizes; each launch fills in the rest

  int32_t* pinned_ids = nullptr;       // [kMaxOutstanding][kPassTokens + kMaxStops]
  unsigned* replies = nullptr;         // [kMaxOutstanding][context], pinned
  unsigned* status = nullptr;          // [kMaxOutstanding][2], pinned
  unsigned* wish = nullptr;            // pinned: not 0, and a reply ends
  cudaEvent_t finished[kMaxOutstanding] = {};
  std::deque<Launch> launches;
  int64_t begun = 0;
  int logits_rows = 0;  // of the latest finished launch
};

namespace {

int allocate(Backend& b, int context, std::string* error) {
  const int64_t cache = int64_t{kLayers} * kKvHeads * context * 2 * kHeadPad * sizeof(Cache);
  const int64_t rope = int64_t{context} * kHeadDim * sizeof(float);
  const int64_t logits = int64_t{kPassTokens} * kVocab * sizeof(float);
  const int64_t counts = int64_t{kVocab} * sizeof(int);
  const int64_t ids = int64_t{kMaxOutstanding} * kPassTokens * sizeof(int);
  const int64_t stops = int64_t{kMaxOutstanding} * kMaxStops * sizeof(int);
  const int64_t sampler = kSamplerFloats * sizeof(float);
  const int64_t words = kernel_word_bytes(kPassTokens);
  const int64_t flags = 256;
  int64_t total = 0;
  for (const int64_t bytes : {kKeptBytes, kStreamBytes, cache, rope, logits, counts, ids, stops, sampler, words, flags}) {
    total += rounded(bytes);
  }

  size_t free_bytes = 0, all_bytes = 0;
  CUDA_TRY(cudaMemGetInfo(&free_bytes, &all_bytes));
  const int64_t staging = kWeightBytes - kKeptBytes;
  if (total + staging > static_cast<int64_t>(free_bytes)) {
    *error = "the model needs " + gibibytes(total + staging) + " of GPU memory (weights " + gibibytes(kKeptBytes + kStreamBytes) +
             ", KV cache for " + std::to_string(context) + " positions " + gibibytes(cache) + ", while loading " + gibibytes(staging) +
             "), " + gibibytes(free_bytes) + " are free";
    return kStatusOutOfMemory;
  }
  if (const int status = allocate_device(b, total, error); status != kStatusOk) return status;
  Arena arena{b.memory};
  b.bound.context = context;
  b.bound.weights = arena.take<char>(kKeptBytes);
  b.bound.stream = arena.take<char>(kStreamBytes);
  b.bound.cache = arena.take<Cache>(cache);
  b.bound.rope = arena.take<float>(rope);
  b.bound.logits = arena.take<float>(logits);
  b.bound.counts = arena.take<int>(counts);
  b.ids = arena.take<int>(ids);
  b.stops = arena.take<int>(stops);
  b.bound.sampler = arena.take<float>(sampler);
  b.bound.words = arena.take<unsigned>(words);
  b.bound.status = arena.take<unsigned>(flags);
  b.bound.next = reinterpret_cast<int*>(b.bound.status + 32);
  CUDA_TRY(cudaMallocHost(reinterpret_cast<void**>(&b.pinned_ids), sizeof(int32_t) * kMaxOutstanding * (kPassTokens + kMaxStops)));
  CUDA_TRY(cudaMallocHost(reinterpret_cast<void**>(&b.replies), sizeof(unsigned) * kMaxOutstanding * context));
  CUDA_TRY(cudaMallocHost(reinterpret_cast<void**>(&b.status), sizeof(unsigned) * kMaxOutstanding * 2));
  CUDA_TRY(cudaMallocHost(reinterpret_cast<void**>(&b.wish), sizeof(unsigned)));
  *b.wish = 0;
  b.bound.wish = b.wish;
  for (cudaEvent_t& event : b.finished) CUDA_TRY(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return kStatusOk;
}

/** What the block that waited too long waited for. */
std::string complaint(const unsigned* status) {
  static const char* const kWhat[] = {"words of another block", "its weights"};
  const unsigned place = status[1], stage = place & 255, layer = place >> 8 & 0xffff;
  return "block " + std::to_string(status[0] - 1) + " waited too long for " + kWhat[place >> 24] + " in stage " + kStageNames[stage] +
         (int(layer) < kLayers ? " of layer " + std::to_string(layer) : "");
}

/** Joins an ended launch: what it left, or why it failed. */
int finish(Backend& b, Launch& launch, std::string* error) {
  launch.ended = true;
  b.logits_rows = launch.pass.tokens - launch.pass.first_logits;
  const unsigned* const status = b.status + 2 * launch.slot;
  if (status[0] == 0) return kStatusOk;
  *error = complaint(status);
  std::string ignored;
  failed(cudaMemsetAsync(b.bound.status, 0, 8, b.stream), "cudaMemsetAsync", &ignored);
  return kStatusDevice;
}

/** Starts packing what was loaded row by row, and frees that memory. */
int pack(Backend& b, std::string* error) {
  if (!b.staging && kWeightBytes > kKeptBytes) return kStatusOk;
  for (int layer = 0; layer <= kLayers; ++layer) {
    const int status = kernel_pack(b.bound.weights, b.staging, const_cast<char*>(b.bound.stream), layer, b.stream);
    if (failed(static_cast<cudaError_t>(status), "kernel_pack", error)) return kStatusDevice;
  }
  CUDA_TRY(cudaStreamSynchronize(b.stream));
  CUDA_TRY(cudaFree(b.staging));
  b.staging = nullptr;
  return kStatusOk;
}

/** Longest wait, and cycles into each stage before which it does not poll; $ONELAUNCH_WAIT_MS and $ONELAUNCH_POLL_CYCLES, a list by
 *  stage, set others. */
void set_times(Pass& pass) {
  const char* const wait = getenv("ONELAUNCH_WAIT_MS");
  pass.budget = wait ? strtoull(wait, nullptr, 10) * 1'000'000 : kBudget;
  for (int i = 0; i < 16; ++i) pass.delays[i] = kDelays[i];
  const char* at = getenv("ONELAUNCH_POLL_CYCLES");
  for (int i = 0; at && *at && i < 16; ++i) {
    char* end;
    pass.delays[i] = int(strtol(at, &end, 10));
    at = *end == ',' ? end + 1 : nullptr;
  }
}

int create(Backend& b, const EngineOptions& options, std::string* error) {
  if (const int status = choose_device(b, options, error); status != kStatusOk) return status;
  int blocks = 0;
  if (failed(static_cast<cudaError_t>(kernel_blocks(b.device, &blocks)), "kernel_blocks", error)) return kStatusDevice;
  if (blocks == 0) {
    *error = "the " + std::to_string(kBlocks) + " blocks of this kernel, which wait for each other, do not fit on " + b.name + " together";
    return kStatusDevice;
  }
  CUDA_TRY(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking));
  const int status = allocate(b, options.context, error);
  return status == kStatusOk ? upload_rope(b, const_cast<float*>(b.bound.rope), options.context, error) : status;
}

}  // namespace

int backend_create(const EngineOptions& options, Backend** out, std::string* error) {
  Backend* backend = new Backend;
  const int status = create(*backend, options, error);
  if (status == kStatusOk) {
    *out = backend;
  } else {
    backend_destroy(backend);
  }
  return status;
}

void backend_destroy(Backend* backend) {
  if (!backend) return;
  if (backend->wish) *backend->wish = 1;
  if (backend->stream) cudaStreamSynchronize(backend->stream);
  for (cudaEvent_t event : backend->finished) {
    if (event) cudaEventDestroy(event);
  }
  cudaFreeHost(backend->pinned_ids);
  cudaFreeHost(backend->replies);
  cudaFreeHost(backend->status);
  cudaFreeHost(backend->wish);
  cudaFree(backend->staging);
  release_device(*backend);
  delete backend;
}

int backend_write(Backend* backend, int64_t offset, const void* data, int64_t bytes, std::string* error) {
  Backend& b = *backend;
  CUDA_TRY(cudaSetDevice(b.device));
  const char* from = static_cast<const char*>(data);
  if (!b.staging && kWeightBytes > kKeptBytes) CUDA_TRY(cudaMalloc(reinterpret_cast<void**>(&b.staging), kWeightBytes - kKeptBytes));
  for (int64_t at = 0, piece = 0; at < bytes; at += piece) {
    const int64_t begin = offset + at;  // a piece lies on one side of kKeptBytes
    char* const to = begin < kKeptBytes ? const_cast<char*>(b.bound.weights) + begin : b.staging + (begin - kKeptBytes);
    piece = std::min({bytes - at, kStageBytes, begin < kKeptBytes ? kKeptBytes - begin : kStageBytes});
    if (const int status = upload(b, to, from + at, piece, error); status != kStatusOk) return status;
  }
  return kStatusOk;
}

int backend_flush(Backend* backend, std::string* error) {
  CUDA_TRY(cudaStreamSynchronize(backend->stream));
  return pack(*backend, error);
}

void* backend_map(Backend*, int64_t) { return nullptr; }

int backend_counts(Backend* backend, const int32_t* ids, int64_t n, std::string* error) {
  return upload_counts(*backend, backend->bound.counts, ids, n, error);
}

int32_t backend_steps(Backend* backend) { return backend->bound.context; }

void backend_stop(Backend* backend) { *static_cast<volatile unsigned*>(backend->wish) = 1; }

int backend_enqueue(Backend* backend, const PassRequest& request, std::string* error) {
  Backend& b = *backend;
  CUDA_TRY(cudaSetDevice(b.device));
  if (request.stop_count > kMaxStops) {
    *error = std::to_string(request.stop_count) + " stop ids were given; there may be " + std::to_string(kMaxStops);
    return kStatusBadArgument;
  }
  const int slot = static_cast<int>(b.begun % kMaxOutstanding);
  Pass pass = b.bound;
  pass.tokens = request.count;
  pass.steps = request.steps;
  pass.position = request.position;
  pass.first_logits = request.first_logits;
  pass.sample = request.sample;
  pass.head = request.sample || request.first_logits < request.count;
  if (request.sampling) pass.sampling = *request.sampling;
  pass.ids = pass.next;
  int32_t* const from = b.pinned_ids + slot * (kPassTokens + kMaxStops);
  if (request.ids) {
    int* const to = b.ids + slot * kPassTokens;
    memset(from, 0, sizeof(int32_t) * kPassTokens);
    memcpy(from, request.ids, sizeof(int32_t) * request.count);
    CUDA_TRY(cudaMemcpyAsync(to, from, sizeof(int) * kPassTokens, cudaMemcpyHostToDevice, b.stream));
    pass.ids = to;
  }
  set_times(pass);
  pass.stop_count = request.steps > 1 ? request.stop_count : 0;
  if (pass.stop_count > 0) {
    int* const to = b.stops + slot * kMaxStops;
    memcpy(from + kPassTokens, request.stop_ids, sizeof(int32_t) * pass.stop_count);
    CUDA_TRY(cudaMemcpyAsync(to, from + kPassTokens, sizeof(int) * pass.stop_count, cudaMemcpyHostToDevice, b.stream));
    pass.stop_ids = to;
  }
  pass.reply = b.replies + int64_t{slot} * b.bound.context;
  memset(pass.reply, 0, sizeof(unsigned) * request.steps);
  if (b.launches.empty()) *b.wish = 0;
  CUDA_TRY(cudaMemsetAsync(pass.words, 0xff, kernel_word_bytes(pass.tokens), b.stream));
  if (failed(static_cast<cudaError_t>(kernel_launch(pass, b.stream)), "kernel_launch", error)) return kStatusDevice;
  CUDA_TRY(cudaMemcpyAsync(b.status + 2 * slot, pass.status, 8, cudaMemcpyDeviceToHost, b.stream));
  CUDA_TRY(cudaEventRecord(b.finished[slot], b.stream));
  b.launches.push_back({pass, slot});
  ++b.begun;
  return kStatusOk;
}

int backend_wait(Backend* backend, int32_t* token, std::string* error) {
  Backend& b = *backend;
  Launch& launch = b.launches.front();
  volatile unsigned* const reply = launch.pass.reply + launch.taken;
  int status = kStatusOk;
  while (!launch.ended && (!launch.pass.sample || *reply == 0)) {
    const cudaError_t state = cudaEventQuery(b.finished[launch.slot]);
    if (state == cudaSuccess) {
      status = finish(b, launch, error);
    } else if (state != cudaErrorNotReady) {
      failed(state, "decode", error);
      status = kStatusDevice;
      launch.ended = true;
    } else {
      std::this_thread::sleep_for(kLook);
    }
  }
  *token = launch.pass.sample && *reply != 0 ? static_cast<int32_t>(*reply) - 1 : -1;
  if (++launch.taken < launch.pass.steps) return status;
  // The last step: the launch itself must be over before the next one's results count.
  if (!launch.ended) {
    const cudaError_t state = cudaEventSynchronize(b.finished[launch.slot]);
    if (failed(state, "decode", error)) status = kStatusDevice;
    else status = finish(b, launch, error);
  }
  b.launches.pop_front();
  return status;
}

int backend_logits(Backend* backend, int32_t row, int32_t rows, float* out, std::string* error) {
  return download_logits(*backend, backend->bound.logits, backend->logits_rows, row, rows, out, error);
}

std::string backend_device(Backend* backend) {
  return backend->name + ", " + std::to_string(kBlocks) + " blocks";
}
