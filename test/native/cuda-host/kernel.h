// Stand-in kernels, one for each scheme: they compute nothing but what shows that they were given the right thing.
#pragma once
#include <cstdint>

#include "host/calls.h"
#include "host/noise.h"

/** What the tests decide about the kernel and see of it. */
struct Kernel {
  bool fits = true;
  bool loses = false;          // the next launch waits for what never comes
  bool endless = false;        // launches of several steps go on until they are asked to end
  const char* wrong = nullptr; // what a launch did not find as it should be
  int stopped_at = -1;         // the step at which the last launch of several ended
};
Kernel& kernel();

/** Checks of what this scheme alone has. */
void check_scheme();

/** Offsets in the packed weights: a border of two pieces that are written, layers or parts of a head, and the end. */
constexpr int64_t kLooks[] = {100'002, 100'003, kWeightBytes / 8, kWeightBytes / 8 * 7, kWeightBytes - 1};

/** What a launch says that lost something. */
extern const char* const kLoss;
/** A byte of the weights, by its place in the packed weights, where a launch reads it. */
char weight_at(const Pass& pass, int64_t offset);

/** Logits that say what a launch was given. */
constexpr int kGiven = 16;

/** The token behind one or several: their sum and the position that it gets. */
inline int token_after(int sum, int position) { return (7 * sum + position + 1) % kVocab; }

/** Where a row of logits has the token that is chosen behind it. */
constexpr int kTokenAt = 12;

/** One pass: logits row i := its token, and what it was given otherwise; the token it chooses. */
inline int run_pass(const Pass& pass, const int* ids, int tokens, int position) {
  int sum = 0;
  for (int i = 0; i < tokens; ++i) sum += ids[i];
  for (int i = pass.first_logits; i < tokens; ++i) {
    float* const row = pass.logits + int64_t{i - pass.first_logits} * kVocab;
    row[0] = static_cast<float>(ids[i]);
    row[1] = static_cast<float>(pass.counts[5]);
    row[2] = pass.rope[int64_t{position} * kHeadDim + 2];  // cosine of the second frequency
    row[3] = pass.sampling.temperature;
    row[4] = static_cast<float>(pass.context);
    row[10] = pass.bias ? pass.bias[9] : 0;
    row[11] = static_cast<float>(pass.cache[0]);
    for (int look = 0; look < 5; ++look) row[5 + look] = weight_at(pass, kLooks[look]);
  }
  for (int i = tokens; i < kPassTokens && tokens > 1; ++i) {
    if (ids[i] != 0) kernel().wrong = "ids behind the tokens";
  }
  pass.cache[0] = static_cast<Cache>(static_cast<float>(pass.cache[0]) + 1);
  const int token = token_after(sum, position + tokens);
  if (pass.first_logits < tokens) pass.logits[int64_t{tokens - 1 - pass.first_logits} * kVocab + kTokenAt] = static_cast<float>(token);
  if (pass.sample) pass.counts[token] += kChosenOnce;
  return token;
}
