// What a job tells its caller: its state, and the tokens that nobody has fetched yet. Whoever has one keeps it under a lock.
#pragma once
#include <algorithm>
#include <vector>

#include "abi.h"
#include "channel.h"
#include "errors.h"
#include "logprobs.h"

struct Outbox {
  Progress progress{};
  std::vector<int32_t> tokens;  // of the job
  size_t fetched = 0;           // of them
  size_t taken_from = 0;        // the first of those that were fetched last
  std::vector<TokenLogprob> logprobs;  // of each token as many as of any other; none unless they were asked for

  /** Whether there are tokens to fetch. */
  bool waiting() const { return fetched < tokens.size(); }

  /** Copies out up to `capacity` new tokens and the state of the job, which counts as running until its last token is fetched: what is left is
   *  told to the caller. */
  Progress take(Channel& caller, int32_t* out, int32_t capacity) {
    caller.looked();
    Progress taken = progress;
    taken.tokens = static_cast<int32_t>(std::min(tokens.size() - fetched, static_cast<size_t>(capacity)));
    std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(fetched), taken.tokens, out);
    taken_from = fetched;
    fetched += static_cast<size_t>(taken.tokens);
    if (waiting()) {
      taken.state = kJobRunning;
      taken.status = kStatusOk;
      caller.tell();
    }
    return taken;
  }

  /** Copies out the log probabilities of the tokens that were taken last. */
  void take_logprobs(int32_t* ids, float* values, int32_t capacity) const {
    const size_t each = tokens.empty() ? 0 : logprobs.size() / tokens.size();
    const size_t first = taken_from * each, count = (fetched - taken_from) * each;
    if (count > static_cast<size_t>(capacity)) fail(kStatusCapacity, "%zu log probabilities do not fit into %d", count, capacity);
    for (size_t i = 0; i < count; ++i) {
      ids[i] = logprobs[first + i].token;
      values[i] = logprobs[first + i].logprob;
    }
  }
};
