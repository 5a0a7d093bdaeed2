// What a job tells its caller: its state, and the tokens that nobody has fetched yet. Whoever has one keeps it under a lock.
#pragma once
#include <algorithm>
#include <vector>

#include "abi.h"

struct Outbox {
  Progress progress{};
  std::vector<int32_t> tokens;  // of the job
  size_t fetched = 0;           // of them

  /** Whether there are tokens to fetch. */
  bool waiting() const { return fetched < tokens.size(); }

  /** Copies out up to `capacity` new tokens and the state of the job, which counts as running until its last token is fetched. */
  Progress take(int32_t* out, int32_t capacity) {
    Progress taken = progress;
    taken.tokens = static_cast<int32_t>(std::min(tokens.size() - fetched, static_cast<size_t>(capacity)));
    std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(fetched), taken.tokens, out);
    fetched += static_cast<size_t>(taken.tokens);
    if (waiting()) {
      taken.state = kJobRunning;
      taken.status = kStatusOk;
    }
    return taken;
  }
};
