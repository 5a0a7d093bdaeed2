// The GPU as a backend: memory, uploads, passes on one stream. Every CUDA call is checked, and its name is in the error.
#include <thread>

#include "lib/device.h"

extern "C" int kernel_blocks(int device, int* blocks);
extern "C" int kernel_launch(const Pass& pass, int blocks, void* stream);

namespace {

/** Words of Pass.barrier that come back after each pass: error, ordinal, up to and including the chosen token. */
constexpr int kNextWord = kBarrierHost;
constexpr int kReplyWords = kNextWord + 1 - kBarrierError;

/** The device's reply to one pass, in pinned memory. */
struct Reply {
  unsigned words[kReplyWords];
  unsigned error() const { return words[0]; }
  unsigned ordinal() const { return words[kBarrierOrdinal - kBarrierError]; }
  int32_t next() const { return static_cast<int32_t>(words[kNextWord - kBarrierError]); }
};

}  // namespace

struct Backend : Device {
  int blocks = 0;
  int* ids = nullptr;      // [kMaxOutstanding][kPassTokens]
  Pass bound{};            // pointers and sizes; each pass fills in the rest

  int32_t* pinned_ids = nullptr;  // [kMaxOutstanding][kPassTokens]
  Reply* replies = nullptr;       // [kMaxOutstanding], pinned
  cudaEvent_t finished[kMaxOutstanding] = {};
  Pass enqueued[kMaxOutstanding];
  int64_t begun = 0, waited = 0;  // passes
  int logits_rows = 0;            // of the latest finished pass
};

namespace {

int allocate(Backend& b, int context, std::string* error) {
  const int64_t cache = int64_t{kLayers} * kKvHeads * context * 2 * kHeadDim * sizeof(Cache);
  const int64_t rope = int64_t{context} * kHeadDim * sizeof(float);
  const int64_t logits = int64_t{kPassTokens} * kVocab * sizeof(float);
  const int64_t counts = int64_t{kVocab} * sizeof(int);
  const int64_t ids = int64_t{kMaxOutstanding} * kPassTokens * sizeof(int);
  const int64_t barrier = kBarrierWords * sizeof(unsigned);
  int64_t total = 0;
  for (const int64_t bytes : {kWeightBytes, cache, rope, kActivationBytes, logits, counts, ids, barrier}) total += rounded(bytes);

  size_t free_bytes = 0, all_bytes = 0;
  CUDA_TRY(cudaMemGetInfo(&free_bytes, &all_bytes));
  if (total > static_cast<int64_t>(free_bytes)) {
    *error = "the model needs " + gibibytes(total) + " of GPU memory (weights " + gibibytes(kWeightBytes) + ", KV cache for " +
             std::to_string(context) + " positions " + gibibytes(cache) + "), " + gibibytes(free_bytes) + " are free";
    return kStatusOutOfMemory;
  }
  if (const int status = allocate_device(b, total, error); status != kStatusOk) return status;
  Arena arena{b.memory};
  b.bound.context = context;
  b.bound.weights = arena.take<char>(kWeightBytes);
  b.bound.cache = arena.take<Cache>(cache);
  b.bound.rope = arena.take<float>(rope);
  bind_activations(b.bound, arena.take<char>(kActivationBytes));
  b.bound.logits = arena.take<float>(logits);
  b.bound.counts = arena.take<int>(counts);
  b.ids = arena.take<int>(ids);
  b.bound.barrier = arena.take<unsigned>(barrier);
  b.bound.next = reinterpret_cast<int*>(b.bound.barrier + kNextWord);
  CUDA_TRY(cudaMallocHost(reinterpret_cast<void**>(&b.pinned_ids), ids));
  CUDA_TRY(cudaMallocHost(reinterpret_cast<void**>(&b.replies), kMaxOutstanding * sizeof(Reply)));
  for (cudaEvent_t& event : b.finished) CUDA_TRY(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return kStatusOk;
}

int create(Backend& b, const EngineOptions& options, std::string* error) {
  if (const int status = choose_device(b, options, error); status != kStatusOk) return status;
  if (failed(static_cast<cudaError_t>(kernel_blocks(b.device, &b.blocks)), "kernel_blocks", error)) return kStatusDevice;
  if (b.blocks == 0) {
    *error = "a block of this kernel does not fit on " + b.name;
    return kStatusDevice;
  }
  CUDA_TRY(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking));
  const int status = allocate(b, options.context, error);
  return status == kStatusOk ? upload_rope(b, const_cast<float*>(b.bound.rope), options.context, error) : status;
}

/** After a barrier ran out of time: what it says, and words that the next pass can use. */
int barrier_failure(Backend& b, const Reply& reply, std::string* error) {
  *error = "barrier: block " + std::to_string(reply.error() - 1) + " waited more than 2 s at grid barrier " +
           std::to_string(reply.ordinal()) + " of the pass";
  std::string ignored;
  failed(cudaStreamSynchronize(b.stream), "cudaStreamSynchronize", &ignored);
  failed(cudaMemset(b.bound.barrier, 0, kBarrierWords * sizeof(unsigned)), "cudaMemset", &ignored);
  return kStatusDevice;
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
  if (backend->stream) cudaStreamSynchronize(backend->stream);
  for (cudaEvent_t event : backend->finished) {
    if (event) cudaEventDestroy(event);
  }
  cudaFreeHost(backend->pinned_ids);
  cudaFreeHost(backend->replies);
  release_device(*backend);
  delete backend;
}

int backend_write(Backend* backend, int64_t offset, const void* data, int64_t bytes, std::string* error) {
  Backend& b = *backend;
  CUDA_TRY(cudaSetDevice(b.device));
  const char* from = static_cast<const char*>(data);
  char* to = const_cast<char*>(b.bound.weights) + offset;
  for (int64_t at = 0; at < bytes; at += kStageBytes) {
    const int64_t piece = bytes - at < kStageBytes ? bytes - at : kStageBytes;
    if (const int status = upload(b, to + at, from + at, piece, error); status != kStatusOk) return status;
  }
  return kStatusOk;
}

int backend_flush(Backend* backend, std::string* error) {
  CUDA_TRY(cudaStreamSynchronize(backend->stream));
  return kStatusOk;
}

void* backend_map(Backend*, int64_t) { return nullptr; }

int backend_counts(Backend* backend, const int32_t* ids, int64_t n, std::string* error) {
  return upload_counts(*backend, backend->bound.counts, ids, n, error);
}

int32_t backend_steps(Backend*) { return 1; }

void backend_stop(Backend*) {}

int backend_enqueue(Backend* backend, const PassRequest& request, std::string* error) {
  Backend& b = *backend;
  CUDA_TRY(cudaSetDevice(b.device));
  const int slot = static_cast<int>(b.begun % kMaxOutstanding);
  Pass pass = b.bound;
  pass.tokens = request.count;
  pass.position = request.position;
  pass.first_logits = request.first_logits;
  pass.sample = request.sample;
  if (request.sampling) pass.sampling = *request.sampling;
  pass.ids = pass.next;
  if (request.ids) {
    int32_t* from = b.pinned_ids + slot * kPassTokens;
    int* to = b.ids + slot * kPassTokens;
    memcpy(from, request.ids, sizeof(int32_t) * request.count);
    CUDA_TRY(cudaMemcpyAsync(to, from, sizeof(int) * request.count, cudaMemcpyHostToDevice, b.stream));
    pass.ids = to;
  }
  if (failed(static_cast<cudaError_t>(kernel_launch(pass, b.blocks, b.stream)), "kernel_launch", error)) return kStatusDevice;
  CUDA_TRY(cudaMemcpyAsync(&b.replies[slot], pass.barrier + kBarrierError, sizeof(Reply), cudaMemcpyDeviceToHost, b.stream));
  CUDA_TRY(cudaEventRecord(b.finished[slot], b.stream));
  b.enqueued[slot] = pass;
  ++b.begun;
  return kStatusOk;
}

int backend_wait(Backend* backend, int32_t* token, std::string* error) {
  Backend& b = *backend;
  const int slot = static_cast<int>(b.waited % kMaxOutstanding);
  ++b.waited;
  cudaError_t status = cudaEventQuery(b.finished[slot]);
  while (status == cudaErrorNotReady) {
    std::this_thread::yield();
    status = cudaEventQuery(b.finished[slot]);
  }
  if (failed(status, "decode", error)) return kStatusDevice;
  const Reply& reply = b.replies[slot];
  if (reply.error() != 0) return barrier_failure(b, reply, error);
  const Pass& pass = b.enqueued[slot];
  b.logits_rows = pass.tokens - pass.first_logits;
  *token = pass.sample ? reply.next() : -1;
  return kStatusOk;
}

int backend_logits(Backend* backend, int32_t row, int32_t rows, float* out, std::string* error) {
  return download_logits(*backend, backend->bound.logits, backend->logits_rows, row, rows, out, error);
}

std::string backend_device(Backend* backend) {
  return backend->name + ", " + std::to_string(backend->blocks) + " blocks";
}
