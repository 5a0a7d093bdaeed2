// What a pass may be asked for: refused with the number that is out of bounds.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>

#include "host/backend.h"
#include "host/model_facts.h"

/** What an engine has room for. */
struct Bounds {
  int32_t sequences;
  int32_t context;  // of each
  int32_t drafts;   // tokens that are checked together
  int32_t rows;     // of several sequences in a pass
};

/** That all of ids [n] are tokens. */
inline int check_ids(const int32_t* ids, int64_t n, std::string* error) {
  const int32_t* const beyond = std::find_if(ids, ids + n, [](int32_t id) { return id < 0 || id >= kModel.vocab; });
  if (beyond == ids + n) return kStatusOk;
  *error = "token " + std::to_string(*beyond) + " is outside the vocabulary of " + std::to_string(kModel.vocab);
  return kStatusBadArgument;
}

/** That `tokens` from a position on have places in the cache of a sequence. */
inline int check_places(int32_t slot, int32_t position, int32_t tokens, const Bounds& bounds, std::string* error) {
  if (slot < 0 || slot >= bounds.sequences) {
    *error = "there is no sequence " + std::to_string(slot) + " among " + std::to_string(bounds.sequences);
    return kStatusBadArgument;
  }
  if (position < 0 || position > bounds.context - tokens) {
    *error = "positions [" + std::to_string(position) + ", " + std::to_string(position + tokens) + ") do not fit the context of " +
             std::to_string(bounds.context);
    return kStatusCapacity;
  }
  return kStatusOk;
}

inline int check_request(const PassRequest& request, const Bounds& bounds, std::string* error) {
  const int32_t count = request.ids ? request.count : 1;
  if (count < 1 || count > kModel.pass_tokens) {
    *error = "a pass takes 1 to " + std::to_string(kModel.pass_tokens) + " tokens, got " + std::to_string(count);
    return kStatusBadArgument;
  }
  const bool has_all_logits = request.ids && request.sample && request.first_logits == 0;
  if (request.check && (!has_all_logits || count > bounds.drafts)) {
    *error = "drafts are checked " + std::to_string(bounds.drafts) + " tokens at a time, with all their logits";
    return kStatusBadArgument;
  }
  if (request.rows && (!has_all_logits || count > bounds.rows || request.check)) {
    *error = "rows are " + std::to_string(bounds.rows) + " at most, with all their logits and no drafts";
    return kStatusBadArgument;
  }
  for (int32_t i = 0; request.rows && i < count; ++i) {
    if (const int status = check_places(request.rows[i].slot, request.rows[i].position, 1, bounds, error)) return status;
  }
  if (!request.rows) {
    if (const int status = check_places(request.slot, request.position, count, bounds, error)) return status;
  }
  return request.ids ? check_ids(request.ids, count, error) : kStatusOk;
}
