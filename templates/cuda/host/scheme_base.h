// What kernels of grid barriers and kernels of streams do each in their own way, as backend.cpp asks for it.
// One of them is `Scheme` in scheme.h. Failures are thrown.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "arena.h"
#include "backend.h"
#include "calls.h"
#include "device.h"

/** A launch that is under way, or waits to be asked for its tokens. */
struct Launch {
  Pass pass;
  int slot;            // below kMaxOutstanding, and of no other launch under way
  int steps;           // passes
  bool prompt;         // by the kernels of prompts
  bool check;          // of drafts
  bool batch;          // of rows
  std::vector<int> sequences;         // slots in the cache: one, or of each row
  std::function<bool()> answered, may_choose;  // of the request; may_choose is null when it was asked, or when it chooses by itself, or nothing
  bool keeps = false;  // its row of logits is copied to the host
  int taken = 0;       // steps that have been waited for
  bool ended = false;
  bool abandoned = false;  // nothing was chosen, for it was not to be
  int asked = kStatusOk;   // what asking it came to
  std::string error;       // of that
};

/** By what the token behind a row of logits is chosen, beside these; null: nothing. */
struct ChosenBy {
  const float* bias;     // [kVocab]
  const unsigned* mask;  // a bit for each of the tokens below mask_vocab; those without may not be chosen
  int mask_vocab;
};

struct SchemeBase {
  // ---- memory

  struct Needs {
    int64_t weight_bytes;   // that stay on the GPU
    int64_t loading_bytes;  // more, while weights are loaded
    int64_t position_size;  // of a position of a head in the cache [Cache]: its key and its value
  };
  virtual Needs needs() const = 0;
  /** Takes its pieces, for so many sequences, and fills in the fields of a pass that stay the same in every launch. */
  virtual void bind(Pass& pass, int sequences, Arena& device, Arena& pinned) = 0;

  // ---- weights

  /** Where the packed weights from an offset on are to be written, and how many bytes of them. */
  struct Place {
    char* to;
    int64_t bytes;
  };
  virtual Place place(int64_t offset) = 0;
  /** Behind a write to such a place, which ends at an offset; all before it is written. */
  virtual void written(int64_t /*end*/, cudaStream_t) {}
  /** Makes of what was written what the kernel reads. */
  virtual void finish_load(cudaStream_t) {}

  // ---- launches

  /** Why no kernel can run when its blocks do not fit. */
  virtual std::string misfit(const Gpu& gpu) const = 0;
  /** The most passes of a launch. */
  virtual int most_steps(int context) const = 0;
  /** The most tokens of a launch that checks drafts; 0: none can. From a position on they may be fewer, down to 1. */
  virtual int check_tokens() const { return 0; }
  virtual int check_tokens_at(int /*position*/) const { return 1; }
  /** The most rows of a launch; 1: none takes rows. */
  virtual int most_rows() const { return 1; }
  /** Asks the launches that are under way to end soon, or no longer does. Any thread may call. */
  virtual void set_stop(bool) {}
  /** Before a launch: fills in what is the scheme's own in this one. */
  virtual void prepare(Pass&, const PassRequest&, int /*launch*/, cudaStream_t) {}
  /** Before a launch that prepare() does not see: where what is chosen goes. */
  virtual void address(Pass&, const PassRequest&, int /*launch*/) {}
  /** Whether choose() can. */
  virtual bool chooses_behind() const { return false; }
  /** Behind a launch that has left logits, of a batch and of a check those of all rows, else the last token's: chooses by each of them. reply() has it then.
   *  @param masked room for as many logits */
  virtual void choose(Pass&, const std::vector<ChosenBy>&, float* /*masked*/, cudaStream_t) {
    fail(kStatusInternal, "these kernels choose no token behind a launch");
  }
  /** Behind a launch: copies to the host what reply() and failure() read, where kernels do not write it there. */
  virtual void collect(const Launch& /*launch*/, cudaStream_t) {}

  // ---- replies

  /** 1 + the token that a step of a launch has chosen, or that follows so many drafts; 0 while there is none. */
  virtual unsigned reply(const Launch& launch, int step) const = 0;
  /** Why an ended launch failed, or nothing. The next one begins as if it had not. */
  virtual std::string failure(const Launch& launch, cudaStream_t stream) = 0;
  /** Between two looks at the reply of a launch. */
  virtual void pause(const Launch& launch) const = 0;

 protected:
  ~SchemeBase() = default;
};
