// A stand-in CUDA runtime: memory is the host's, a stream is a thread that does one thing after the other.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>

/** What the tests decide about it and see of it. */
struct Runtime {
  int64_t free_bytes = int64_t{1} << 30;
  int failing = -1;    // calls that succeed before one fails; -1: none fails
  int alive = 0;       // allocations, streams and events
  const char* failed;  // the call that failed
};
Runtime& runtime();

/** Does something in the order of a stream. */
void on_stream(cudaStream_t stream, std::function<void()> work);
