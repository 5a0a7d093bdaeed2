// The times of a launch, which the environment may set: both variables are read once, when the engine is made.
//   ONELAUNCH_WAIT_MS      longest wait of a block for another
//   ONELAUNCH_POLL_CYCLES  cycles into each stage before which it does not poll, a list by stage: 1200,0,900
#pragma once
#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "model.h"

struct Times {
  unsigned long long timeout_ns = 2'000'000'000;
  int delays[std::size(kDelays)];  // kDelays, or what the environment says
};

inline Times times_of_environment() {
  Times times;
  if (const char* const wait = getenv("ONELAUNCH_WAIT_MS")) times.timeout_ns = strtoull(wait, nullptr, 10) * 1'000'000;
  std::copy(std::begin(kDelays), std::end(kDelays), times.delays);
  const char* at = getenv("ONELAUNCH_POLL_CYCLES");
  for (int i = 0; at && *at && i < int(std::size(times.delays)); ++i) {
    char* end;
    times.delays[i] = int(strtol(at, &end, 10));
    at = *end == ',' ? end + 1 : nullptr;
  }
  return times;
}
