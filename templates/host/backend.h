// What a target provides to the host code: memory, passes in order, logits. One implementation is linked.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "abi.h"     // EngineOptions, Sampling, status codes
#include "choice.h"  // has_penalties
#include "finite.h"  // kNotFinite
#include "row.h"

/** In the place of a token to feed: the one chosen last for its sequence, by the pass before where passes have no rows. Of rows, or nullptr. */
constexpr int32_t kLastChosen = -1;

struct PassRequest {
  const int32_t* ids;      // [count] on the host; nullptr: one token, kLastChosen
  int32_t count;           // 1..kPassTokens, or up to backend_prompt_tokens; these with sample only where backend_prompt_logits
  int32_t position;        // of the first token
  int32_t first_logits;    // logits rows of tokens [first_logits, count) are computed
  bool sample;             // choose the next token from the last token's logits
  const Sampling* sampling;
  int32_t steps;           // passes: after the first, each feeds the token sampled before it; above 1 only with one token that samples
  const int32_t* stop_ids; // [stop_count] of a request with several steps: the passes end after such a token
  int32_t stop_count;
  bool check = false;      // tokens from the second on are drafts: the token after each is chosen, up to the first that is no draft. With sample and all logits
  int32_t slot = 0;           // of the sequence, below EngineOptions.sequences
  bool keep_logits = false;   // backend_logits_row will be asked for them, also where the kernel needs none to choose a token. One step
  const Row* rows = nullptr;  // [count]: each token belongs to a sequence of its own, which has its slot, position and sampling; the token after each is chosen. One step
  std::function<bool()> answered = nullptr;  // with may_choose: whether that would return at once; waits for it for a fraction of a pass
  // Where backend_asks, with sample: asked in front of the choice; backend_mask may be called until it returns. False: the pass is abandoned. Nothing
  // is enqueued behind one that was not asked.
  std::function<bool()> may_choose = nullptr;
};

struct Backend;
class Drafter;

/** Requests that may be enqueued and not yet waited for. */
constexpr int kMaxOutstanding = 4;

/** Sequences of an engine, at most. */
constexpr int kMostSequences = 16;

/** Stop tokens of a reply, at most. */
constexpr int kMostStops = 1024;

// Every int is a status of the ABI table; on failure *error says why, for people.

/** Device, arena for weights, KV cache, activations and logits, rope table, threads. Weights and cache begin as zeros. */
int backend_create(const EngineOptions& options, Backend** out, std::string* error);
/** Waits for nothing: the caller has waited for every pass. Null is allowed. */
void backend_destroy(Backend* backend);
/** Copies bytes into the packed weights at offset, behind those that were written before, or from the first on; data may be reused on return.
 *  Called from one thread. */
int backend_write(Backend* backend, int64_t offset, const void* data, int64_t bytes, std::string* error);
/** After the last write: returns when the weights are ready for a pass. */
int backend_finish_load(Backend* backend, std::string* error);
/** Direct pointer into the packed weights, or nullptr where the target has none (CUDA). */
void* backend_map(Backend* backend, int64_t offset);
/** Penalty counts of a sequence: ids [n] are its prompt; tokens sampled for it are counted by the backend from then on. A reply without
 *  penalties needs none: on a GPU they are a copy of kVocab numbers in front of its first pass. */
int backend_counts(Backend* backend, int32_t slot, const int32_t* ids, int64_t n, std::string* error);
/** From here on adds biases [n] to the logits of tokens ids [n] of a sequence, each id once, and 0 to all others, before penalties. */
int backend_bias(Backend* backend, int32_t slot, const int32_t* ids, const float* biases, int64_t n, std::string* error);
/** Of tokens [vocab] of a sequence, those without a bit in words [(vocab + 31) / 32] are not chosen from here on, whatever their logits and
 *  biases; no words: all may be again. At least one has its bit. Undone by backend_bias.
 *  @param row 0; above it those behind the draft of that number, in checks that ask may_choose */
int backend_mask(Backend* backend, int32_t slot, int32_t row, const uint32_t* words, int32_t vocab, std::string* error);
/** The most tokens of a request where prompts have kernels of their own; else 0. */
int32_t backend_prompt_tokens(Backend* backend);
/** The fewest: what is shorter goes through passes, since these take less time. */
int32_t backend_prompt_least(Backend* backend);
/** Whether their logits can be had too, and a token be chosen by them: else tokens that get logits go through passes. */
bool backend_prompt_logits(Backend* backend);
/** Whether a pass asks may_choose once its logits are there. Elsewhere all that a choice depends on is there before the pass is enqueued. */
bool backend_asks(Backend* backend);
/** The most steps of one request. */
int32_t backend_steps(Backend* backend);
/** The most tokens of a request that checks drafts, up to kPassTokens, each computed as in a pass of its own; below 2: it cannot. Any thread may call. */
int32_t backend_check_tokens(Backend* backend);
/** The most tokens of such a request from this position on, 1 or more. */
int32_t backend_check_tokens_at(Backend* backend, int32_t position);
/** The most rows of a request; 1: a pass has one sequence, and no rows. On a CPU how many there are changes nothing of any of them; on a GPU
 *  it decides how sums are ordered. */
int32_t backend_rows(Backend* backend);
/** Who drafts for this backend; nullptr: what is usual. Owned by the backend. */
Drafter* backend_drafter(Backend* backend);
// What a sequence has in the cache. Any thread may call: passes that run meanwhile are of other sequences, or of later positions.

/** Bytes of a position of a sequence: keys and values of all layers. */
int64_t backend_position_bytes(Backend* backend);
/** The first `count` positions of a sequence become those of another. */
int backend_copy_positions(Backend* backend, int32_t from, int32_t to, int32_t count, std::string* error);
/** Copies positions [position, position + count) of a sequence to bytes [layers][kv heads][count][2][of a key or a value]. */
int backend_read_positions(Backend* backend, int32_t slot, int32_t position, int32_t count, void* bytes, std::string* error);
/** Makes such bytes the positions [position, position + count) of a sequence. */
int backend_write_positions(Backend* backend, int32_t slot, int32_t position, int32_t count, const void* bytes, std::string* error);
/** Asks requests of several steps, and prompts, to end soon. Any thread may call. */
void backend_stop(Backend* backend);
/** Requests run in order; at most kMaxOutstanding may be outstanding. The request's arrays are copied. Each step is waited for. */
int backend_enqueue(Backend* backend, const PassRequest& request, std::string* error);
/** Asks the oldest outstanding pass what it is to be asked, once that is answered or its logits are there. Whether its choice is under way then, so
 *  that another pass may be enqueued behind it; what it failed of is told by backend_wait. */
bool backend_ask(Backend* backend);
/** Waits for the oldest outstanding step, and asks it if nobody has; *token = what it sampled, kNotFinite if it could not, kAbandoned for a prompt that was stopped or a choice that was not to be, -1 if it
 *  did not sample, or did not run since the steps ended. */
int backend_wait(Backend* backend, int32_t* token, std::string* error);
/** Copies the tokens that the latest finished pass chose to out [its tokens], and says how many. All but the last of a check are drafts;
 *  of rows there is one each. */
int32_t backend_chosen(Backend* backend, int32_t* out);
/** Copies logits rows [row, row + rows) of the latest finished pass to out [rows][kVocab]; row 0 is of token first_logits. */
int backend_logits(Backend* backend, int32_t row, int32_t rows, float* out, std::string* error);
/** Whether a request of one row that keeps its logits may be followed by another before backend_logits_row asks for them. */
bool backend_keeps_logits(Backend* backend);
/** *logits = row [kVocab] of these, on the host. It stays until another one is asked for, or a pass is enqueued. */
int backend_logits_row(Backend* backend, int32_t row, const float** logits, std::string* error);
#if PROFILE
/** Adds the events recorded since the last call to *events, track by track, and those that found no room to *missed. While no pass runs. */
int backend_profile(Backend* backend, std::vector<ProfileEvent>* events, int64_t* missed, std::string* error);
#endif
/** For people: a GPU name, or a CPU path with its threads. */
std::string backend_device(Backend* backend);
