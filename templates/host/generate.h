// The jobs over a sequence: a reply (prefill, then one token a pass) and teacher-forced scores.
// A position counts when its K and V are in the cache. The last token of a reply has been chosen but not fed, so it has none yet:
// whoever continues after it starts the next prompt with it.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "backend.h"
#include "errors.h"
#include "finite.h"
#include "generate_job.h"
#include "job.h"
#include "logprobs.h"
#include "masks.h"
#include "model_drafter.h"
#include "model_facts.h"
#include "passes.h"
#include "speculation.h"

/** The token at every position in the KV cache. */
using Sequence = std::vector<int32_t>;

struct ScoreJob {
  std::vector<int32_t> ids;
  int32_t first;
};

/** Passes enqueued beyond the one that is waited for. A device of its own would idle between passes without them;
 *  a backend that shares our memory runs on our own cores, where they would only delay the token and the stop. */
inline int passes_ahead(Backend* backend) { return backend_map(backend, 0) == nullptr ? 2 : 0; }

/** The same of passes whose tokens wait for masks. */
inline int passes_ahead_of_masks(Backend* backend) { return backend_asks(backend) ? std::min(1, passes_ahead(backend)) : 0; }

/** The same of passes whose logits are looked at. */
inline int passes_ahead_of_logits(Backend* backend) { return backend_keeps_logits(backend) ? std::min(1, passes_ahead(backend)) : 0; }

/** Whether a sequence that decodes alone may check drafts: a pass of several of its tokens gives them the bits that it has alone. Where rows of sequences are
 *  products of their own, as on a CPU, it does not. */
inline bool checks_alone(Backend* backend) { return passes_ahead(backend) > 0 && backend_check_tokens(backend) > 1; }

/** Tokens of the next pass of those that are left, of which the last `wanted` are to have logits. Where prompts have kernels of their own, these
 *  take whatever is too long for passes of decoding, but for tokens whose logits they do not make. */
inline int32_t tokens_of_pass(Backend* backend, int32_t left, int32_t wanted) {
  const int32_t most = backend_prompt_tokens(backend), prompt = backend_prompt_logits(backend) ? left : left - wanted;
  return most > 0 && prompt >= backend_prompt_least(backend) ? std::min(prompt, most) : std::min(left, kModel.pass_tokens);
}

/** The same of a text of which tokens get logits from `first` on, where `at` come before those that are left. */
inline int32_t scored_of_pass(Backend* backend, int32_t left, int32_t at, int32_t first) {
  return tokens_of_pass(backend, left, std::min(left, left + at - first));
}

/** Ends a job: the logits of the token at this position hold NaN or an infinity. */
[[noreturn]] inline void fail_not_finite(int32_t position) {
  fail(kStatusNotFinite, "the logits are not finite at position %d", position);
}

/** Ends a job whose pass chose no token of the model, behind the one at this position. */
inline void check_token(int32_t token, int32_t position) {
  if (token == kNotFinite) fail_not_finite(position);
  if (token < 0 || token >= kModel.vocab) fail(kStatusInternal, "sampled %d, which is no token", token);
}

/** How a reply ends with this token, so many of which were delivered with it; kFinishNone: it goes on. */
inline int32_t finish_with(const GenerateJob& job, int32_t token, int64_t delivered) {
  if (std::find(job.stop_ids.begin(), job.stop_ids.end(), token) != job.stop_ids.end()) return kFinishStop;
  return delivered == job.max_tokens ? kFinishLength : kFinishNone;
}

/** Copies the logits of the latest finished pass to out [rows][vocab]. Ends a job if some hold NaN or an infinity.
 *  @param position of the token that the first row is of */
inline void fetch_logits(Backend* backend, int32_t rows, int32_t position, float* out) {
  if (rows == 0) return;
  std::string error;
  check(backend_logits(backend, 0, rows, out, &error), error);
  for (int32_t row = 0; row < rows; ++row) {
    if (!all_finite(out + int64_t{row} * kModel.vocab, kModel.vocab)) fail_not_finite(position + row);
  }
}

/** The log probabilities that a job wants of a token, which the latest finished pass chose from a row of its logits.
 *  @param position of the token before it */
inline std::vector<TokenLogprob> logprobs_of_row(Backend* backend, const GenerateJob& job, int32_t row, int32_t token, int32_t position) {
  if (!job.wants_logprobs()) return {};
  const float* logits = nullptr;
  std::string error;
  check(backend_logits_row(backend, row, &logits, &error), error);
  if (!all_finite(logits, kModel.vocab)) fail_not_finite(position);
  return logprobs_of(logits, kModel.vocab, job.sampling.vocab, token, job.top_logprobs);
}

/** Tells the backend what the choice of a sequence's tokens depends on beside their logits. @param known all tokens before the reply */
inline void prepare_choice(Backend* backend, int32_t slot, const GenerateJob& job, const std::vector<int32_t>& known) {
  std::string error;
  if (has_penalties(job.sampling)) check(backend_counts(backend, slot, known.data(), static_cast<int64_t>(known.size()), &error), error);
  check(backend_bias(backend, slot, job.bias_ids.data(), job.biases.data(), static_cast<int64_t>(job.bias_ids.size()), &error), error);
}

/** Tells the backend which tokens of a sequence may be chosen next; of a check also behind drafts, by the rows of their logits. */
inline void apply_mask(Backend* backend, int32_t slot, const GenerateJob& job, const MaskWords& mask, int32_t row = 0) {
  if (!job.masked) return;
  std::string error;
  check(backend_mask(backend, slot, row, mask.empty() ? nullptr : mask.data(), job.sampling.vocab, &error), error);
}

/** Whether what the caller of a masked reply expects is checked. Not where penalties count each draft before the next one is chosen. */
inline bool checks_expected(Backend* backend, const GenerateJob& job) {
  return job.masked && backend_asks(backend) && !has_penalties(job.sampling);
}

inline double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

/** Steps of a request while drafts are looked for: what they find is looked up when the request is over. */
constexpr int32_t kMostPlainSteps = 16, kFirstPlainSteps = 4;

/** Those of the next request: one where there are drafts, or no room for any, and twice as many as before where there are none. */
inline int32_t next_plain_steps(int32_t before, bool drafts, int32_t room) {
  return room == 0 || drafts ? 1 : std::min(2 * before, kMostPlainSteps);
}

/** A pass in flight. */
struct Flight {
  int32_t prompt;  // tokens of the prompt; 0: it feeds the token chosen before it
  int32_t drafts;  // and so many drafts behind that
};

/** Feeds the prompt and delivers tokens until a stop token, max_tokens, the end of the context or a stop request.
 *  The sequence grows as passes finish, so it is right whenever this returns or throws. Drafts change neither tokens nor positions, only how
 *  many passes there are: those that are wrong have positions that the next pass writes again. */
inline void generate(Backend* backend, JobThread& thread, Sequence& sequence, const GenerateJob& job, int32_t context,
                     PassTimes& times, DraftEngine& drafts) {
  const auto start = std::chrono::steady_clock::now();
  auto first_token = start;
  Sequence known = sequence;  // what is fed, and what has been chosen
  known.insert(known.end(), job.prompt.begin(), job.prompt.end());
  prepare_choice(backend, 0, job, known);

  const auto prompt = static_cast<int32_t>(job.prompt.size());
  ModelDrafter model(drafts, job, thread);
  Speculation speculation(backend, job.speculation, times, drafts.ready() && !job.masked ? &model : nullptr);
  // Masks follow the last token; a pass that asks for its own follows the choice by the one before.
  const int ahead = job.masked ? passes_ahead_of_masks(backend) : passes_ahead(backend);
  const int depth = 1 + (job.wants_logprobs() ? std::min(ahead, passes_ahead_of_logits(backend)) : ahead);
  auto position = static_cast<int32_t>(sequence.size());  // of the next pass
  int32_t fed = 0;                                        // prompt tokens enqueued
  int32_t computed = 0;                                   // prompt tokens whose pass has finished
  int32_t samples = 0;                                    // tokens chosen by passes that are enqueued, without drafts
  int32_t delivered = 0;
  std::deque<Flight> flights;
  std::vector<int32_t> chosen(kModel.pass_tokens);  // by the latest pass
  Passes passes(backend);
  int32_t plain_steps = kFirstPlainSteps;  // of the request before
  const bool looks_up = speculation.on() && !job.masked;
  const bool expects = speculation.on() && checks_expected(backend, job);

  /** Drafts follow the last token, so they wait for it; where there were none for a while, and are none now, passes run ahead. */
  const auto may_run_ahead = [&] {
    if (job.masked) return flights.back().drafts == 0 && passes.ask() && !(expects && thread.expects() && speculation.of_expected(1) > 0);
    return !looks_up || fed < prompt || (plain_steps == kMostPlainSteps && !speculation.has_drafts(known));
  };

  // False: the job is to stop, and its next token has no mask.
  const auto has_mask = [&] {
    MaskWords mask;
    if (!thread.wait_for_mask(&mask)) return false;
    apply_mask(backend, 0, job, mask);
    return true;
  };

  // What has_mask says, where a mask is needed before the pass.
  const auto enqueue_next = [&] {
    const int32_t count = tokens_of_pass(backend, prompt - fed, 1);
    const bool needs_mask = job.masked && fed + count == prompt;
    if (needs_mask && !backend_asks(backend) && !has_mask()) return false;
    std::vector<int32_t> ids;  // the token chosen last, and drafts
    std::vector<Expected> expected;
    if (count == 0 && (looks_up || expects) && passes.outstanding() == 0) {
      const int32_t room = std::min({job.max_tokens - delivered, context - position, backend_check_tokens_at(backend, position)}) - 1;
      if (!expects) ids = speculation.drafts(known, room);
      else if (speculation.of_expected(room) > 0) expected = thread.wait_for_expected(room);
      if (expects) expected.resize(speculation.of_expected(static_cast<int32_t>(expected.size())));
      for (const Expected& next : expected) ids.push_back(next.token);
      if (!ids.empty()) ids.insert(ids.begin(), known.back());
      plain_steps = next_plain_steps(plain_steps, !ids.empty(), room);
    }
    PassRequest request{};
    request.ids = count > 0 ? job.prompt.data() + fed : ids.empty() ? nullptr : ids.data();
    request.count = std::max({count, 1, static_cast<int32_t>(ids.size())});
    request.check = !ids.empty();
    request.position = position;
    request.sample = fed + count == prompt;
    request.first_logits = request.check ? 0 : request.sample ? request.count - 1 : request.count;
    request.sampling = &job.sampling;
    request.stop_ids = job.stop_ids.data();
    request.stop_count = static_cast<int32_t>(job.stop_ids.size());
    request.keep_logits = job.wants_logprobs();
    request.steps = count > 0 || request.check || request.keep_logits || job.masked ? 1 : std::min({backend_steps(backend), job.max_tokens - samples, context - position});
    if (looks_up) request.steps = std::min(request.steps, plain_steps);
    if (needs_mask && backend_asks(backend)) {
      request.answered = [&] { return thread.mask_comes(); };
      request.may_choose = [&, expected = std::move(expected)] {
        for (size_t i = 0; i < expected.size(); ++i) apply_mask(backend, 0, job, expected[i].behind, static_cast<int32_t>(i) + 1);
        return has_mask();
      };
    }
    passes.enqueue(request);
    flights.insert(flights.end(), static_cast<size_t>(request.steps), {count, request.check ? request.count - 1 : 0});
    fed += count;
    position += request.count + request.steps - 1;
    samples += request.sample ? request.steps : 0;
    return true;
  };
  const auto more = [&] { return fed < prompt || (samples < job.max_tokens && position < context); };

  int32_t finish = kFinishNone;
  auto begun = start;  // the pass that is waited for; of a masked reply what is done for it
  const auto take = [&](int32_t token, int32_t row) {
    const auto before = static_cast<int32_t>(sequence.size()) - 1;
    check_token(token, before);
    const std::vector<TokenLogprob> logprobs = logprobs_of_row(backend, job, row, token, before);
    if (delivered == 0) first_token = std::chrono::steady_clock::now();
    known.push_back(token);
    finish = finish_with(job, token, ++delivered);
    thread.deliver(token, logprobs, [&](Progress& progress) {
      progress.position = static_cast<int32_t>(sequence.size());
      progress.done = delivered;
      progress.drafted = speculation.drafted();
      progress.accepted = speculation.accepted();
      progress.prefill_ms = std::chrono::duration<double, std::milli>(first_token - start).count();
      progress.decode_ms = milliseconds_since(first_token);
    });
  };

  while (finish == kFinishNone) {
    bool masked = true;
    while (masked && passes.outstanding() < depth && more() && (passes.outstanding() == 0 || may_run_ahead())) masked = enqueue_next();
    if (passes.outstanding() == 0) {
      finish = masked ? kFinishContext : kFinishAborted;
      break;
    }
    // Masks are waited for before a pass as well as in it.
    if (!job.masked) begun = std::chrono::steady_clock::now();
    const int32_t token = passes.wait();
    const Flight flight = flights.front();
    flights.pop_front();
    // What did not run has no positions.
    if (token == kAbandoned || (flight.prompt == 0 && token == -1)) {
      finish = kFinishAborted;
      break;
    }
    if (flight.prompt > 0) {
      sequence.insert(sequence.end(), job.prompt.begin() + computed, job.prompt.begin() + computed + flight.prompt);
      computed += flight.prompt;
      if (thread.stopping()) {
        finish = kFinishAborted;
      } else if (computed == prompt) {
        take(token, 0);
        begun = std::chrono::steady_clock::now();
      } else {
        thread.report([&](Progress& progress) { progress.position = static_cast<int32_t>(sequence.size()); });
      }
      continue;
    }
    chosen[0] = token;
    const int32_t tokens = flight.drafts > 0 ? backend_chosen(backend, chosen.data()) : 1;
    if (looks_up || expects) speculation.passed(flight.drafts, tokens - 1, milliseconds_since(begun));
    begun = std::chrono::steady_clock::now();
    for (int32_t i = 0; i < tokens && finish == kFinishNone; ++i) {
      sequence.push_back(known[sequence.size()]);
      MaskWords taken;  // when the pass was made
      if (thread.stopping() || (job.masked && i > 0 && !thread.wait_for_mask(&taken))) {
        finish = kFinishAborted;
      } else {
        take(chosen[i], i);
      }
    }
    // Of positions behind a draft that was wrong there is nothing to keep.
    if (flight.drafts > 0) {
      position = static_cast<int32_t>(sequence.size());
      samples = delivered;
    }
  }
  thread.report([&](Progress& progress) {
    progress.finish = finish;
    progress.draft_status = drafts.status;
    if (delivered == 0) progress.prefill_ms = milliseconds_since(start);
  });
}

/** Feeds ids; the logits of those from `first` on, [ids.size() - first][kVocab], or none when it is stopped. */
inline std::vector<float> score(Backend* backend, JobThread& thread, Sequence& sequence, const ScoreJob& job) {
  const auto start = std::chrono::steady_clock::now();
  const auto total = static_cast<int32_t>(job.ids.size());
  std::vector<float> logits(static_cast<size_t>(total - job.first) * kModel.vocab);
  Passes passes(backend);
  for (int32_t at = 0; at < total;) {
    if (thread.stopping()) {
      thread.report([](Progress& progress) { progress.finish = kFinishAborted; });
      return {};
    }
    const int32_t count = scored_of_pass(backend, total - at, at, job.first);
    PassRequest request{};
    request.ids = job.ids.data() + at;
    request.count = count;
    request.position = static_cast<int32_t>(sequence.size());
    request.first_logits = std::clamp(job.first - at, 0, count);
    request.steps = 1;
    passes.enqueue(request);
    if (passes.wait() == kAbandoned) continue;
    sequence.insert(sequence.end(), job.ids.begin() + at, job.ids.begin() + at + count);
    fetch_logits(backend, count - request.first_logits, request.position + request.first_logits,
                 logits.data() + int64_t{at + request.first_logits - job.first} * kModel.vocab);
    at += count;
    thread.report([&](Progress& progress) {
      progress.position = static_cast<int32_t>(sequence.size());
      progress.done = at;
      progress.total = total;
      progress.prefill_ms = milliseconds_since(start);
    });
  }
  return logits;
}
