// What an engine drafts for another one: the tokens that it would choose itself behind those that are known.
#pragma once
#include <algorithm>
#include <cstdint>

#include "backend.h"
#include "generate.h"
#include "passes.h"

/** Writes tokens behind job.prompt to out, at most job.max_tokens, up to a stop token, the end of the context, or until stopping() says so; how many.
 *  The sequence keeps what it has in common with the prompt: positions behind a draft that was wrong are written again. */
template <class Stopping>
int32_t draft_tokens(Backend* backend, Sequence& sequence, const GenerateJob& job, int32_t context, Stopping&& stopping, int32_t* out) {
  const Sequence& known = job.prompt;
  const auto total = static_cast<int32_t>(known.size());
  const int32_t most = std::min(job.max_tokens, context - total + 1);
  // The last token is fed in any case: what follows it is chosen by its logits.
  const auto kept = std::min(sequence.size(), known.size() - 1);
  sequence.erase(std::mismatch(sequence.begin(), sequence.begin() + static_cast<std::ptrdiff_t>(kept), known.begin()).first, sequence.end());
  prepare_choice(backend, 0, job, known);
  Passes passes(backend);
  int32_t made = 0;
  while (made < most && !stopping()) {
    const auto position = static_cast<int32_t>(sequence.size());
    const int32_t left = total - position;  // of what is known
    PassRequest request{};
    request.ids = left > 0 ? known.data() + position : out + made - 1;
    request.count = left > 0 ? tokens_of_pass(backend, left, 1) : 1;
    request.position = position;
    request.sample = request.count >= left;
    request.first_logits = request.sample ? request.count - 1 : request.count;
    request.sampling = &job.sampling;
    request.stop_ids = job.stop_ids.data();
    request.stop_count = static_cast<int32_t>(job.stop_ids.size());
    request.steps = request.sample && request.count == 1 ? std::min(backend_steps(backend), most - made) : 1;
    passes.enqueue(request);
    for (int32_t step = 0; step < request.steps; ++step) {
      const int32_t token = passes.wait();
      if (token == kAbandoned || (request.sample && token == -1)) return made;
      if (step == 0) {
        sequence.insert(sequence.end(), request.ids, request.ids + request.count);
      } else {
        sequence.push_back(out[made - 1]);
      }
      if (!request.sample) continue;
      check_token(token, static_cast<int32_t>(sequence.size()) - 1);
      out[made++] = token;
      if (finish_with(job, token, made) == kFinishStop) return made;
    }
  }
  return made;
}
