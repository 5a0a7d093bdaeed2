// The stand-in of a kernel of a stream.
#include <chrono>
#include <thread>
#include <vector>

#include "host/stream_calls.h"
#include "kernel.h"
#include "runtime.h"

Kernel& kernel() {
  static Kernel instance;
  return instance;
}

const char* const kLoss = "block 2 waited too long for its weights in stage qkv of layer 1";

static std::vector<char> packed;

char weight_at(const Pass& pass, int64_t offset) {
  return offset < kKeptBytes ? pass.weights[offset] : packed[static_cast<size_t>(offset - kKeptBytes)];
}

cudaError_t kernel_blocks(int, int* blocks) {
  *blocks = kernel().fits ? kBlocks : 0;
  return cudaSuccess;
}

int64_t kernel_word_bytes(int tokens) { return 4 * tokens; }

cudaError_t kernel_pack(const char*, const char* staged, char* to, int layer, cudaStream_t stream) {
  on_stream(stream, [=] {
    to[layer] = static_cast<char>(1 + layer);
    packed.assign(staged, staged + (kWeightBytes - kKeptBytes));
  });
  return cudaSuccess;
}

static bool ends_behind(const Pass& pass, int token) {
  for (int i = 0; i < pass.stop_count; ++i) {
    if (pass.stop_ids[i] == token) return true;
  }
  return *static_cast<const volatile unsigned*>(pass.stop_request) != 0;
}

/** The token after each, up to the first that is not the draft behind it. */
static void check_drafts(const Pass& pass) {
  if (pass.tokens > kCheckTokens || pass.first_logits != 0 || !pass.sample || pass.steps != 1) kernel().wrong = "a check";
  for (int i = 0; i < pass.tokens; ++i) {
    if (pass.reply[i] != 0) kernel().wrong = "a reply that is there before it is made";
  }
  for (int i = 0, before = 0; i < pass.tokens; ++i) {
    before += pass.ids[i];
    *pass.next = token_after(before, pass.position + i + 1);
    static_cast<volatile unsigned*>(pass.reply)[i] = unsigned(*pass.next) + 1;
    if (i + 1 < pass.tokens && *pass.next != pass.ids[i + 1]) break;
  }
}

static void decode(const Pass& pass) {
  for (int i = 0; i < pass.tokens; ++i) {
    if (pass.words[i] != ~0u) kernel().wrong = "words of another launch";
    pass.words[i] = 0;
  }
  if (pass.stream[kLayers] != 1 + kLayers) kernel().wrong = "the head was not packed";
  if (pass.head != (pass.sample || pass.first_logits < pass.tokens)) kernel().wrong = "head";
  if (pass.timeout_ns != 300'000'000) kernel().wrong = "timeout";
  if (pass.delays[0] != 11 || pass.delays[2] != 13 || pass.delays[3] != kDelays[3]) kernel().wrong = "delays";
  if (kernel().loses) pass.status[0] = 3, pass.status[1] = 1u << 24 | 1u << 8 | 1u;
  kernel().loses = false;
  const int* ids = pass.ids;
  if (pass.check) return check_drafts(pass);
  for (int step = 0; step < pass.steps; ++step) {
    if (pass.status[0] != 0) return;
    const int token = run_pass(pass, ids, pass.tokens, pass.position + step);
    if (!pass.sample) return;
    *pass.next = token;
    *static_cast<volatile unsigned*>(pass.reply + step) = unsigned(token) + 1;
    ids = pass.next;
    kernel().stopped_at = step;
    const volatile unsigned* const stop = pass.stop_request;
    while (kernel().endless && pass.steps > 1 && step == 2 && *stop == 0) continue;
    if (ends_behind(pass, token)) break;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a launch ends after its last token
}

cudaError_t kernel_mask(const unsigned* words, const float* bias, int vocab, float* masked, cudaStream_t stream) {
  on_stream(stream, [=] { mask_bias(words, bias, vocab, masked); });
  return cudaSuccess;
}

cudaError_t kernel_launch(const Pass& pass, int blocks, cudaStream_t stream) {
  if (blocks != kBlocks) kernel().wrong = "blocks";
  on_stream(stream, [pass] { decode(pass); });
  return cudaSuccess;
}
