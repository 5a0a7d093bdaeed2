#include "runtime.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

struct CUevent_st {
  std::atomic<int> pending{0};
};

struct CUstream_st {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;  // the first is being done
  bool quit = false;
  std::thread thread{[this] { serve(); }};

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return quit || !work.empty(); });
      if (work.empty()) return;
      const std::function<void()>& first = work.front();
      lock.unlock();
      first();
      lock.lock();
      work.pop_front();
      changed.notify_all();
    }
  }

  void drain() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return work.empty(); });
  }
};

static std::set<CUstream_st*> streams;

/** What is given back is in use by no stream any more. */
static void drain_all() {
  for (CUstream_st* const stream : streams) stream->drain();
}

Runtime& runtime() {
  static Runtime instance;
  return instance;
}

static std::atomic<bool> lost{false};
static std::string lost_why;

void lose_device(const std::string& why) {
  if (lost) return;
  lost_why = why;
  lost = true;
}

static std::mutex allocations_mutex;
static std::map<const char*, size_t> allocations;  // sizes by begin

bool in_allocation(const void* from, size_t bytes) {
  static thread_local const char* begin = nullptr;
  static thread_local const char* end = nullptr;
  const auto* const at = static_cast<const char*>(from);
  if (at >= begin && at + bytes <= end) return true;
  const std::lock_guard<std::mutex> lock(allocations_mutex);
  auto next = allocations.upper_bound(at);
  if (next == allocations.begin()) return false;
  --next;
  begin = next->first;
  end = begin + next->second;
  return at + bytes <= end;
}

void on_stream(cudaStream_t stream, std::function<void()> work) {
  std::lock_guard<std::mutex> lock(stream->mutex);
  stream->work.push_back(std::move(work));
  stream->changed.notify_all();
}

namespace {

/** Whether this call is the one that is to fail. */
bool fails(const char* call) {
  if (runtime().failing < 0 || runtime().failing-- > 0) return false;
  runtime().failed = call;
  return true;
}

}  // namespace

#define MAY_FAIL \
  if (fails(__func__)) return cudaErrorUnknown

#define MAY_BE_LOST \
  if (lost) return cudaErrorLaunchFailure

const char* cudaGetErrorString(cudaError_t status) {
  if (status == cudaErrorLaunchFailure && lost) return lost_why.c_str();
  return status == cudaErrorMemoryAllocation ? "out of memory" : "unknown error";
}
const char* cudaGetErrorName(cudaError_t status) {
  if (status == cudaErrorLaunchFailure) return "cudaErrorLaunchFailure";
  return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown";
}

cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  MAY_FAIL;
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int) {
  MAY_FAIL;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  MAY_FAIL;
  *properties = {};
  strcpy(properties->name, "stand-in");
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* all) {
  MAY_FAIL;
  *free_bytes = *all = static_cast<size_t>(runtime().free_bytes);
  return cudaSuccess;
}

static cudaError_t allocate(void** memory, size_t bytes) {
  *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
  memset(*memory, 0xa5, bytes);  // nothing is zero unless the host code makes it so
  ++runtime().alive;
  const std::lock_guard<std::mutex> lock(allocations_mutex);
  allocations[static_cast<char*>(*memory)] = bytes;
  return cudaSuccess;
}

static cudaError_t release(void* memory) {
  drain_all();
  {
    const std::lock_guard<std::mutex> lock(allocations_mutex);
    allocations.erase(static_cast<char*>(memory));
  }
  if (memory) --runtime().alive;
  free(memory);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  MAY_FAIL;
  return static_cast<int64_t>(bytes) > runtime().free_bytes ? cudaErrorMemoryAllocation : allocate(memory, bytes);
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  MAY_FAIL;
  return allocate(memory, bytes);
}
cudaError_t cudaFree(void* memory) { return release(memory); }
cudaError_t cudaFreeHost(void* memory) { return release(memory); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  MAY_FAIL;
  streams.insert(*stream = new CUstream_st);
  ++runtime().alive;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  MAY_FAIL;
  stream->drain();
  MAY_BE_LOST;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    std::lock_guard<std::mutex> lock(stream->mutex);
    stream->quit = true;
    stream->changed.notify_all();
  }
  stream->thread.join();
  streams.erase(stream);
  delete stream;
  --runtime().alive;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  MAY_FAIL;
  *event = new CUevent_st;
  ++runtime().alive;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  drain_all();
  delete event;
  --runtime().alive;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  MAY_FAIL;
  ++event->pending;
  on_stream(stream, [event] { --event->pending; });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  MAY_FAIL;
  MAY_BE_LOST;
  if (event->pending == 0) return cudaSuccess;
  std::this_thread::sleep_for(std::chrono::microseconds(20));  // the processor may be needed by who does the work
  return cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  MAY_FAIL;
  while (event->pending != 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
  MAY_BE_LOST;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  MAY_FAIL;
  on_stream(stream, [=] { memcpy(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height, cudaMemcpyKind,
                              cudaStream_t stream) {
  MAY_FAIL;
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
  on_stream(stream, [=] {
    for (size_t row = 0; row < height; ++row) memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
  });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  MAY_FAIL;
  on_stream(stream, [=] { memset(to, value, bytes); });
  return cudaSuccess;
}
