// What the passes of a batch are to do next, by what its sequences have, lack and wait for: whose tokens the next pass takes, whether it may follow those
// that are under way, and when it has its masks.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "backend.h"
#include "generate.h"
#include "masks.h"
#include "sequences.h"

class Turns : public Sequences {
 public:
  using Sequences::Sequences;

 protected:
  /** Passes of a launch under way: one of several sequences, several of one, or one of a chunk of its prompt. */
  struct Flight {
    std::vector<int32_t> slots;
    bool rows = false;     // one for each of these slots
    bool several = false;  // passes of one slot, when it was launched
    bool masked = false;
    bool asks = false;   // it is still to be asked for its masks
    int32_t steps = 1;   // passes that were not waited for
    bool looks = false;  // for drafts behind what it chooses, so that nothing follows it unseen
    int32_t drafts = 0;  // that it checks
    int32_t chunk = 0;   // tokens of a prompt, or of what is scored; 0: it decodes
  };

  /** What is to be done, by slot. */
  struct Turn {
    std::vector<int32_t> stopped, decoding;
    std::vector<int32_t> waiting;  // they would decode if they had their masks
    int32_t filling = -1;  // whose prompt came first, of those that have nothing of it under way
    bool feeding = false;  // a chunk of a prompt is under way
    bool in_turn = false;  // some job has to see a pass before the next one
  };

  Turn look(Backend* backend) {
    std::lock_guard<std::mutex> lock(mutex_);
    news_ = false;
    const bool stopping = stopping_();
    Turn turn;
    std::vector<int32_t> prompts;
    for (int32_t slot = 0; slot < static_cast<int32_t>(members_.size()); ++slot) {
      const Member& member = members_[slot];
      if (!member.running || member.ending) continue;
      turn.in_turn |= member.job.masked || member.job.wants_logprobs();
      turn.feeding |= member.feeding;
      if (member.stop || stopping) {
        turn.stopped.push_back(slot);
      } else if (member.feeding) {
        continue;  // what it needs next is known behind that
      } else if (lacks_mask(backend, member)) {
        if (left(member) == 1 && has_room(member)) turn.waiting.push_back(slot);
      } else if (left(member) == 1 && !member.scores) {
        if (has_room(member)) turn.decoding.push_back(slot);
      } else {
        prompts.push_back(slot);
      }
    }
    const size_t others = turn.decoding.size();
    for (const int32_t slot : prompts) {
      const Member& member = members_[slot];
      if (goes_with(backend, member, others) && turn.decoding.size() < static_cast<size_t>(backend_rows(backend))) {
        if (has_room(member)) turn.decoding.push_back(slot);
      } else if (member.in_flight == 0 && (turn.filling < 0 || member.arrival < members_[turn.filling].arrival)) {
        turn.filling = slot;
      }
    }
    std::sort(turn.decoding.begin(), turn.decoding.end());
    return turn;
  }

  /** Where nobody decodes who needs no mask, those that wait for theirs take part in the pass, which asks for the masks in front of its choice.
   *  Who is late does so with others of its kind alone. Whether the pass has to ask. */
  bool let_masks_come(Turn& turn) const {
    const auto late = [&](int32_t slot) { return members_[slot].late; };
    const auto masked = [&](int32_t slot) { return members_[slot].job.masked; };
    std::vector<int32_t>&decoding = turn.decoding, &waiting = turn.waiting;
    if (!std::all_of(decoding.begin(), decoding.end(), masked)) return false;
    if (!decoding.empty() || !std::all_of(waiting.begin(), waiting.end(), late)) {
      waiting.erase(std::remove_if(waiting.begin(), waiting.end(), late), waiting.end());
    }
    decoding.insert(decoding.end(), waiting.begin(), waiting.end());
    std::sort(decoding.begin(), decoding.end());
    return !waiting.empty();
  }

  /** Whether a chunk of a prompt is next: they take turns with the passes of those that decode. */
  bool fills_next(const Turn& turn) const { return turn.filling >= 0 && (!filled_ || turn.decoding.empty()); }

  /** Whether what is to be done can follow the passes under way, though nobody knows what they will choose: not those of a launch of several,
   *  of which nobody knows how many will run, nor one behind which drafts are looked for, nor what is scored, whose logits are fetched first. */
  bool may_launch(Backend* backend, const Turn& turn) const {
    const Flight& last = flights_.back();
    if (flights_.size() > launches_ahead(backend) || last.several || last.looks || members_[last.slots[0]].scores) return false;
    if (fills_next(turn)) return !turn.in_turn && !members_[turn.filling].scores;
    return turn.in_turn ? passes_ahead_of_masks(backend) > 0 && follows_masked(turn, flights_.back()) : !turn.decoding.empty();
  }

  /** Whether anything is to be done that is not this sequence's next pass. */
  static bool others_wait(const Turn& turn, int32_t slot) {
    return turn.filling >= 0 || !turn.stopped.empty() || turn.decoding.size() > 1 || (turn.decoding.size() == 1 && turn.decoding[0] != slot);
  }

  /** Whether all of these have their masks, or one ends and gets none; waits for that for kMaskLook. */
  bool masks_come_soon(const std::vector<int32_t>& slots) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, kMaskLook, [&] {
      const auto ends = [&](int32_t slot) { return members_[slot].ending || members_[slot].stop; };
      return stopping_() || std::any_of(slots.begin(), slots.end(), ends) || masks_ready(slots) == slots.size();
    });
  }

  /** Waits for the masks of the sequences of a pass, which has been under way since `launched`. False: somebody stops, or somebody else has something
   *  to do; or some have theirs, and have waited for the others as long as for the pass. */
  bool masks_come(Backend* backend, const std::vector<int32_t>& slots, std::chrono::steady_clock::time_point launched) {
    const auto asked = std::chrono::steady_clock::now(), latest = asked + (asked - launched);
    std::vector<MaskWords> masks;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      while (masks_ready(slots) < slots.size()) {
        if (something_else_to_do(backend, slots)) return false;
        if (masks_ready(slots) == 0) {
          changed_.wait(lock);
        } else if (changed_.wait_until(lock, latest) == std::cv_status::timeout) {
          for (const int32_t slot : slots) members_[slot].late = !members_[slot].masks.ready();
          return false;
        }
      }
      for (const int32_t slot : slots) masks.push_back(take_mask(members_[slot]));
    }
    for (size_t i = 0; i < slots.size(); ++i) apply_mask(backend, slots[i], members_[slots[i]].job, masks[i]);
    return true;
  }

  /** Passes that a reply may have behind those that are under way. */
  int32_t most_steps(const Member& member) const {
    const auto tokens = static_cast<int32_t>(member.outbox.tokens.size());
    return std::min(member.job.max_tokens - tokens, context_ - member.computed) - member.in_flight;
  }

  static MaskWords take_mask(Member& member) {
    member.late = false;
    return member.masks.take();
  }

  // The thread's own.
  std::deque<Flight> flights_;  // in their order
  bool filled_ = false;         // the last one launched has a chunk of a prompt
  std::function<bool()> stopping_;

 private:
  /** Launches beyond the one that is waited for. One hides what is between two; each makes whoever joins wait for a pass more. */
  static size_t launches_ahead(Backend* backend) { return static_cast<size_t>(std::min(1, passes_ahead(backend))); }

  /** Whether another pass may follow those of a sequence that are under way. */
  bool has_room(const Member& member) const { return member.in_flight == 0 || most_steps(member) > 0; }

  /** Whether what is left of a prompt is fed as tokens that decode are, beside those of so many others: a pass of its own would keep all of these waiting,
   *  for the time of more passes than it takes so. What it chooses behind tokens before the last counts nothing, so nothing may depend on that. */
  static bool goes_with(Backend* backend, const Member& member, size_t others) {
    const GenerateJob& job = member.job;
    return launches_ahead(backend) > 0 && !member.scores && !job.masked && !job.wants_logprobs() && !has_penalties(job.sampling) &&
           2 * static_cast<size_t>(left(member)) <= others;
  }

  /** Whether the next pass of a sequence chooses a token. */
  static bool samples_next(Backend* backend, const Member& member) {
    return !member.scores && tokens_of_pass(backend, left(member), 1) == left(member);
  }

  /** Whether the next pass of a sequence chooses a token for which its mask is still to come. */
  static bool lacks_mask(Backend* backend, const Member& member) { return !member.masks.ready() && samples_next(backend, member); }

  /** Whether a pass that waits for masks may follow one whose choices by the masks before are under way: of the same sequences. */
  bool follows_masked(const Turn& turn, const Flight& flight) const {
    const auto wants_logprobs = [&](int32_t slot) { return members_[slot].job.wants_logprobs(); };
    return flight.masked && !flight.asks && turn.decoding.empty() && turn.waiting == flight.slots &&
           std::none_of(flight.slots.begin(), flight.slots.end(), wants_logprobs);
  }

  /** Whether somebody stops, or one of these has, or somebody who is not among them could go on. Under the lock. */
  bool something_else_to_do(Backend* backend, const std::vector<int32_t>& slots) const {
    if (stopping_()) return true;
    for (int32_t slot = 0; slot < static_cast<int32_t>(members_.size()); ++slot) {
      const Member& member = members_[slot];
      if (!member.running) continue;
      const bool among = std::find(slots.begin(), slots.end(), slot) != slots.end();
      // Who has ended, and is told so behind the pass, gets no mask any more.
      if (member.ending ? among : member.stop || (!among && !lacks_mask(backend, member))) return true;
    }
    return false;
  }

  /** How many of these have their masks. Under the lock. */
  size_t masks_ready(const std::vector<int32_t>& slots) const {
    return static_cast<size_t>(std::count_if(slots.begin(), slots.end(), [&](int32_t slot) { return members_[slot].masks.ready(); }));
  }
};
