// A stand-in CUDA runtime: memory is the host's, a stream is a thread that does one thing after the other.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

/** What the tests decide about it and see of it. */
struct Runtime {
  int64_t free_bytes = int64_t{1} << 30;
  int failing = -1;    // calls that succeed before one fails; -1: none fails
  int alive = 0;       // allocations, streams and events
  const char* failed;  // the call that failed
};
Runtime& runtime();

/** From now on every call that waits fails, and says why. */
void lose_device(const std::string& why);
/** Whether these bytes are of one allocation. */
bool in_allocation(const void* from, size_t bytes);

/** Does something in the order of a stream. */
void on_stream(cudaStream_t stream, std::function<void()> work);
