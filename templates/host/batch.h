// Sequences of an engine, several at once. Each pass takes one token of every sequence that decodes, or a chunk of the prompt of one; no pass
// does both, and a chunk ends where it would end alone. So a sequence is computed by the passes that it would have by itself.
// Where the device has its own memory, a pass of tokens that nobody has seen yet, or of a prompt, is launched while the one before runs, a sequence that
// decodes alone has many passes in a launch, or drafts in a pass, and the last few tokens of a prompt go with those of the many that decode. One thread runs
// them.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "errors.h"
#include "generate.h"
#include "masks.h"
#include "model_facts.h"
#include "passes.h"
#include "turns.h"

/** Sequences, and the passes that their jobs take. */
class Batch : public Turns {
 public:
  using Turns::Turns;

  /** Runs passes until every job has ended. What fails in between, for want of memory, ends those that run; who has joined meanwhile goes on. */
  template <class Stopping>
  void serve(Backend* backend, Stopping&& stopping) {
    stopping_ = stopping;
    for (over_ = false; !over_;) {
      std::string error;
      const int status = guarded(&error, [&] {
        Passes passes(backend);
        run(backend, passes);
      });
      if (status != kStatusOk) fail_all(status, error);
    }
  }

  /** Ends all jobs, of which no pass is under way, also where no thread runs any for want of memory. */
  void fail_all(int status, const std::string& error) {
    flights_.clear();
    for (int32_t slot = 0; slot < static_cast<int32_t>(members_.size()); ++slot) {
      Member& member = members_[slot];
      if (!running(slot)) continue;
      member.in_flight = 0;
      member.feeding = false;
      Ending ending{kFinishNone, status, ""};
      std::string ignored;
      guarded(&ignored, [&] { ending.error = error; });
      end(slot, member.ending ? std::move(*member.ending) : std::move(ending));
    }
    untold_ = ended_ = false;
    channel_.tell(true);
  }

 private:
  void run(Backend* backend, Passes& passes) {
    while (!over_) {
      const bool stepped = step(backend, passes);
      const bool ended = std::exchange(ended_, false);
      if (std::exchange(untold_, false)) channel_.tell(ended);  // once for all that a pass has made
      if (stepped) continue;
      // All that run wait for masks.
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return news_; });
    }
  }

  /** What ends, and a chunk of the prompt that came first, or a pass of all that decode, but for tokens that wait for their masks; or what a pass
   *  under way has made. False: there was nothing of it. */
  bool step(Backend* backend, Passes& passes) {
    Turn turn = look(backend);
    for (const int32_t slot : turn.stopped) conclude(slot, kFinishAborted);
    if (!flights_.empty() && !may_launch(backend, turn)) {
      if (flights_.back().several && others_wait(turn, flights_.back().slots[0])) backend_stop(backend);
      land(backend, passes);
      return true;
    }
    filled_ = fills_next(turn);
    if (filled_) {
      fill(backend, passes, turn.filling);
      return true;
    }
    const bool asks = backend_asks(backend) && turn.filling < 0 && let_masks_come(turn);
    const bool alone = turn.decoding.size() == 1 && turn.filling < 0 && !turn.feeding && !turn.in_turn;
    const auto most = static_cast<size_t>(backend_rows(backend));
    if (turn.decoding.size() > most) {  // in turns, from the slot behind the last one that had its turn
      const auto next = std::upper_bound(turn.decoding.begin(), turn.decoding.end(), last_);
      std::rotate(turn.decoding.begin(), next, turn.decoding.end());
      turn.decoding.resize(most);
    }
    if (!turn.decoding.empty()) decode(backend, passes, turn.decoding, alone, asks);
    return !turn.stopped.empty() || !turn.decoding.empty();
  }

  /** Tells the backend what the token that is chosen next depends on. */
  void prepare(Backend* backend, int32_t slot) {
    count(backend, slot);
    Member& member = members_[slot];
    if (!member.job.masked) return;
    MaskWords mask;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      mask = take_mask(member);
    }
    apply_mask(backend, slot, member.job, mask);
  }

  void count(Backend* backend, int32_t slot) {
    Member& member = members_[slot];
    if (std::exchange(member.counted, true)) return;
    prepare_choice(backend, slot, member.job, member.tokens);
  }

  /** Launches a chunk of a prompt, the last one with the choice of the reply's first token; or of what is scored. */
  void fill(Backend* backend, Passes& passes, int32_t slot) {
    Member& member = members_[slot];
    PassRequest request{};
    request.slot = slot;
    request.ids = member.tokens.data() + member.computed;
    request.count = member.scores ? scored_of_pass(backend, left(member), member.computed, member.first_scored) : tokens_of_pass(backend, left(member), 1);
    request.position = member.computed;
    request.sample = !member.scores && request.count == left(member);
    request.first_logits = request.sample ? request.count - 1 : first_logits(member, request.count);
    request.sampling = &member.job.sampling;
    request.keep_logits = member.job.wants_logprobs();
    request.steps = 1;
    std::string error;
    const int status = guarded(&error, [&] {
      if (request.sample) prepare(backend, slot);
      passes.enqueue(request);
    });
    if (status != kStatusOk) return conclude(slot, kFinishNone, status, error);
    member.feeding = true;
    member.in_flight = 1;
    Flight flight;
    flight.slots = {slot};
    flight.chunk = request.count;
    flights_.push_back(std::move(flight));
  }

  /** The token of a chunk that does not choose from which on it has logits: the first that is scored, or none. */
  static int32_t first_logits(const Member& member, int32_t count) {
    return member.scores ? std::clamp(member.first_scored - member.computed, 0, count) : count;
  }

  /** Waits for the oldest pass under way, a chunk, and takes what it has made. */
  void land_chunk(Backend* backend, Passes& passes) {
    const int32_t slot = flights_.front().slots[0], count = flights_.front().chunk;
    flights_.pop_front();
    Member& member = members_[slot];
    member.feeding = false;
    member.in_flight = 0;
    int32_t token = -1;
    std::string error;
    const int status = guarded(&error, [&] {
      token = passes.wait();
      if (member.scores && token != kAbandoned) keep_logits(backend, member, count);
    });
    if (status == kStatusOk && token != kAbandoned) advance(slot, count);
    if (member.ending) return end(slot, *member.ending);
    if (status != kStatusOk) return conclude(slot, kFinishNone, status, error);
    if (token == kAbandoned) return conclude(slot, kFinishAborted);
    if (left(member) > 0) return;
    if (member.scores) return conclude(slot, kFinishNone);
    take(backend, slot, token, 0);
  }

  /** Keeps the logits of a chunk of what is scored. */
  static void keep_logits(Backend* backend, Member& member, int32_t count) {
    const int32_t first = first_logits(member, count), rows = count - first;
    const size_t before = member.logits.size();
    member.logits.resize(before + static_cast<size_t>(rows) * kModel.vocab);
    fetch_logits(backend, rows, member.computed + first, member.logits.data() + before);
  }

  /** Drafts behind the last token of a sequence that decodes alone; and how many passes its launch may have: one while that token is still to be chosen,
   *  from kMostPlainSteps on all, since it is stopped where drafts are found. */
  std::vector<int32_t> look_up(Backend* backend, Member& member) {
    if (!member.speculation) member.speculation = std::make_unique<Speculation>(backend, member.job.speculation, times_, nullptr);
    if (member.in_flight > 0) {
      member.plain_steps = 1;
      return {};
    }
    const int32_t room = std::min(most_steps(member), backend_check_tokens_at(backend, member.computed)) - 1;
    std::vector<int32_t> drafts = member.speculation->drafts(member.tokens, room);
    member.plain_steps = next_plain_steps(member.plain_steps, !drafts.empty(), room);
    return drafts;
  }

  /** Launches a pass of the last token of each of these sequences; for one that decodes alone as many passes as a launch has, or one with drafts.
   *  @param asks not all have their masks */
  void decode(Backend* backend, Passes& passes, const std::vector<int32_t>& slots, bool alone, bool asks) {
    std::vector<int32_t> ids;
    std::vector<Row> rows;
    for (const int32_t slot : slots) {
      const Member& member = members_[slot];
      const auto next = static_cast<size_t>(member.computed + member.in_flight);
      ids.push_back(next < member.tokens.size() ? member.tokens[next] : kLastChosen);
      rows.push_back({slot, static_cast<int32_t>(next), &member.job.sampling});
    }
    Member& first = members_[slots[0]];
    const bool looks = alone && checks_alone(backend) && first.job.speculation.draft_tokens != 0;
    int32_t drafts = 0;
    std::string error;
    if (looks) {
      const std::vector<int32_t> found = look_up(backend, first);
      drafts = static_cast<int32_t>(found.size());
      ids.insert(ids.end(), found.begin(), found.end());
    }
    PassRequest request{};
    request.ids = slots.size() == 1 && first.in_flight > 0 ? nullptr : ids.data();
    request.count = static_cast<int32_t>(ids.size());
    request.slot = rows[0].slot;
    request.position = rows[0].position;
    request.sampling = rows[0].sampling;
    request.sample = true;
    request.check = drafts > 0;
    bool masked = true;
    for (const int32_t slot : slots) {
      request.keep_logits |= members_[slot].job.wants_logprobs();
      masked &= members_[slot].job.masked;
    }
    request.steps = alone && drafts == 0 ? std::max(1, std::min(backend_steps(backend), most_steps(first))) : 1;
    if (looks && first.plain_steps < kMostPlainSteps) request.steps = std::min(request.steps, first.plain_steps);
    request.stop_ids = first.job.stop_ids.data();
    request.stop_count = static_cast<int32_t>(first.job.stop_ids.size());
    // One row too: on a CPU its bits are those of a row among others.
    if (backend_rows(backend) > 1 && request.ids && request.steps == 1 && drafts == 0) request.rows = rows.data();
    if (asks) {
      request.answered = [this, slots] { return masks_come_soon(slots); };
      request.may_choose = [this, backend, slots, launched = std::chrono::steady_clock::now()] { return masks_come(backend, slots, launched); };
    }
    const int status = guarded(&error, [&] {
      for (const int32_t slot : slots) asks ? count(backend, slot) : prepare(backend, slot);
      passes.enqueue(request);
    });
    last_ = slots.back();
    if (status != kStatusOk) {
      for (const int32_t slot : slots) conclude(slot, kFinishNone, status, error);
      return;
    }
    for (const int32_t slot : slots) members_[slot].in_flight += request.steps;
    Flight flight;
    flight.slots = slots;
    flight.rows = request.rows != nullptr;
    flight.several = request.steps > 1;
    flight.masked = masked;
    flight.asks = asks;
    flight.steps = request.steps;
    flight.looks = looks;
    flight.drafts = drafts;
    flights_.push_back(std::move(flight));
  }

  /** Asks the oldest pass under way for its masks; or waits for it, and takes what it has chosen, of sequences that have ended nothing. */
  void land(Backend* backend, Passes& passes) {
    Flight& flight = flights_.front();
    if (flight.chunk > 0) return land_chunk(backend, passes);
    if (std::exchange(flight.asks, false) && passes.ask()) return;  // another may follow it now
    std::vector<int32_t> chosen(static_cast<size_t>(std::max(kModel.pass_tokens, backend_rows(backend))));
    int32_t steps = 1, right = 0;
    std::string error;
    const auto begun = std::chrono::steady_clock::now();
    const int status = guarded(&error, [&] {
      chosen[0] = passes.wait();
      if (flight.rows) backend_chosen(backend, chosen.data());
      if (flight.drafts > 0) right = backend_chosen(backend, chosen.data()) - 1;
    });
    const bool has_run = status == kStatusOk && chosen[0] != kAbandoned && (flight.rows || chosen[0] != -1);
    // Behind a step that did not run none does.
    for (; !has_run && steps < flight.steps; ++steps) {
      std::string ignored;
      guarded(&ignored, [&] { passes.wait(); });
    }
    if (has_run && flight.looks) members_[flight.slots[0]].speculation->passed(flight.drafts, right, milliseconds_since(begun));
    const std::vector<int32_t> slots = flight.slots;
    const bool looks = flight.looks && flight.steps > steps + 1;  // another pass has room for drafts
    if ((flight.steps -= steps) == 0) flights_.pop_front();
    for (size_t i = 0; i < slots.size(); ++i) {
      Member& member = members_[slots[i]];
      member.in_flight -= steps;
      if (member.ending) {
        if (member.in_flight == 0) end(slots[i], *member.ending);
      } else if (status != kStatusOk) {
        conclude(slots[i], kFinishNone, status, error);
      } else if (has_run) {
        // Of drafts those that were right, and the token behind them.
        for (size_t row = i; row <= i + static_cast<size_t>(right) && member.running && !member.ending; ++row) {
          advance(slots[i], 1);
          if (left(member) == 0) take(backend, slots[i], chosen[row], static_cast<int32_t>(row));
        }
        if (looks && member.running && !member.ending && member.speculation->has_drafts(member.tokens)) backend_stop(backend);
      }
    }
  }

  void advance(int32_t slot, int32_t count) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = members_[slot];
    member.computed += count;
    member.outbox.progress.position = member.computed;
    if (member.scores) member.outbox.progress.done += count;
    if (left(member) > 0) untold_ = true;
  }

  /** The token that was chosen behind the last one fed, from a row of logits. */
  void take(Backend* backend, int32_t slot, int32_t token, int32_t row) {
    Member& member = members_[slot];
    std::vector<TokenLogprob> logprobs;
    std::string error;
    const int status = guarded(&error, [&] {
      check_token(token, member.computed - 1);
      logprobs = logprobs_of_row(backend, member.job, row, token, member.computed - 1);
    });
    if (status != kStatusOk) return conclude(slot, kFinishNone, status, error);
    int32_t finish = kFinishNone;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (member.outbox.tokens.empty()) member.first = std::chrono::steady_clock::now();
      member.masks.chose(token);
      member.tokens.push_back(token);
      member.outbox.tokens.push_back(token);
      member.outbox.logprobs.insert(member.outbox.logprobs.end(), logprobs.begin(), logprobs.end());
      member.outbox.progress.done = static_cast<int64_t>(member.outbox.tokens.size());
      if (member.speculation) {
        member.outbox.progress.drafted = member.speculation->drafted();
        member.outbox.progress.accepted = member.speculation->accepted();
      }
      member.outbox.progress.prefill_ms = std::chrono::duration<double, std::milli>(member.first - member.begin).count();
      member.outbox.progress.decode_ms = milliseconds_since(member.first);
      finish = finish_with(member.job, token, member.outbox.progress.done);
      if (finish == kFinishNone && member.computed == context_) finish = kFinishContext;
      if (finish == kFinishNone) untold_ = true;
    }
    if (finish != kFinishNone) conclude(slot, finish);
  }

  /** The job has ended, and is told so once no pass under way has a token of it: until then the place in the cache is not its caller's. */
  void conclude(int32_t slot, int32_t finish, int status = kStatusOk, const std::string& error = "") {
    const Ending ending{finish, status, error};
    if (members_[slot].in_flight == 0) return end(slot, ending);
    members_[slot].ending = ending;
  }

  /** Gives a sequence back to its caller, with what is in the cache. With the last one the thread leaves: whoever adds another has serve() run
   *  again. */
  void end(int32_t slot, Ending ending) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = members_[slot];
    auto& [finish, status, error] = ending;
    member.running = false;
    member.ending.reset();
    member.tokens.resize(static_cast<size_t>(member.computed));
    if (status != kStatusOk || finish == kFinishAborted) member.logits.clear();
    member.outbox.progress.state = status == kStatusOk ? kJobDone : kJobFailed;
    member.outbox.progress.status = status;
    member.outbox.progress.finish = finish;
    if (member.outbox.tokens.empty()) member.outbox.progress.prefill_ms = milliseconds_since(member.begin);
    member.error.swap(error);
    over_ = std::none_of(members_.begin(), members_.end(), [](const Member& other) { return other.running; });
    if (over_) serving_ = false;
    untold_ = ended_ = true;
  }

  // The thread's own.
  PassTimes times_;  // of sequences that decode alone
  bool over_ = false;
  bool untold_ = false;  // there is something new for the caller
  bool ended_ = false;   // a job's end among it
  int32_t last_ = -1;   // slot that was the last of a pass
};
