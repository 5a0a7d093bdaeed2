// Kernels of streams: a launch is a whole reply whose tokens arrive one by one, and weights are packed as they come.
#pragma once
#include <chrono>
#include <thread>

#include "scheme_base.h"
#include "shares.h"
#include "staging.h"
#include "stream_calls.h"
#include "times.h"
#include "uploads.h"

struct Scheme final : SchemeBase {
  /** Whose the tracks of a block are, in a profile. */
  static constexpr int kRoles[] = {kRoleFirst, kRoleLast, kRoleProducer, kRolePublisher};

  Needs needs() const override { return {kKeptBytes + kStreamBytes, Staging::kBytes, kPositionSize}; }

  void bind(Pass& pass, int sequences, Arena& device, Arena& pinned) override {
    pass.weights = kept_ = device.take<char>(kKeptBytes);
    pass.stream = stream_ = device.take<char>(kStreamBytes);
    pass.words = device.take<unsigned>(kernel_word_bytes(kPassTokens) / int64_t{sizeof(unsigned)});
    pass.choices = device.take<Choices>(1);
    pass.listed = device.take<uint64_t>(int64_t{kBlocks} * kListedOfBlock);
    pass.bests = device.take<uint64_t>(int64_t{kPassTokens} * kBlocks);
    pass.next = device.take<int>(sequences);
    pass.status = device.take<unsigned>(kStatusWords);
    failures_ = pinned.take<unsigned>(kMaxOutstanding * kStatusWords);
    reply_words_ = std::max(pass.context, kPassTokens);
    replies_ = pinned.take<unsigned>(int64_t{kMaxOutstanding} * reply_words_);
    pass.stop_request = stop_request_ = pinned.take<unsigned>(1);
    stops_.bind(device, pinned, kMostStops);
    pass.timeout_ns = times_.timeout_ns;
    std::copy(std::begin(times_.delays), std::end(times_.delays), pass.delays);
  }

  // The matrices lie after what is kept as it is.
  Place place(int64_t offset) override {
    return offset < kKeptBytes ? Place{kept_ + offset, kKeptBytes - offset} : staging_.place(offset);
  }

  void written(int64_t end, cudaStream_t stream) override {
    if (end > kKeptBytes) staging_.written(end, stream_, stream);
  }

  void finish_load(cudaStream_t stream) override {
    if (kStagedHeadBytes == 0) check_cuda(kernel_pack_head(kept_ + kTiedHeadAt, stream_, 0, kVocab, stream), "kernel_pack_head");
    CUDA(cudaStreamSynchronize(stream));
    staging_.release();
  }

  std::string misfit(const Gpu& gpu) const override {
    return "the " + std::to_string(kBlocks) + " blocks of this kernel, which wait for each other, do not fit on " + gpu.name + " together";
  }

  int most_steps(int context) const override { return context; }

  int check_tokens() const override { return kCheckTokens; }

  // All of them see the tiles of positions that the first one does, shared by as many blocks.
  int check_tokens_at(int position) const override {
    int tokens = 1;
    const auto alike = [&](int other) { return tiles_before(other) == tiles_before(position) && splits_at(other) == splits_at(position); };
    while (tokens < kCheckTokens && position % kKvTile != 0 && alike(position + tokens)) ++tokens;
    return tokens;
  }

  int most_rows() const override { return kPassTokens; }

  void set_stop(bool wanted) override { *static_cast<volatile unsigned*>(stop_request_) = wanted; }

  void prepare(Pass& pass, const PassRequest& request, int launch, cudaStream_t stream) override {
    pass.batch = request.rows != nullptr;
    pass.check = request.check;
    address(pass, request, launch);
    pass.failure = failures_ + launch * kStatusWords;
    std::fill_n(pass.failure, kStatusWords, 0u);
    pass.steps = request.steps;
    pass.keep_logits = request.keep_logits || request.may_choose;  // which chooses by them
    pass.head = pass.sample || pass.first_logits < pass.tokens;
    pass.stop_count = pass.steps > 1 ? request.stop_count : 0;
    if (pass.stop_count > 0) pass.stop_ids = stops_.send(launch, request.stop_ids, pass.stop_count, stream);
    if (pass.check) pass.keep_logits |= !is_greedy(pass.sampling, pass.bias);
    if (pass.batch) {
      for (int i = 0; i < pass.tokens; ++i) {
        const Row& row = request.rows[i];
        pass.rows[i] = {request.ids[i], row.position, row.slot, 0, 0, row.bias, *row.sampling};
        pass.keep_logits |= !is_greedy(*row.sampling, row.bias);
      }
      deal_rows(pass);
    }
    if (pass.check && pass.tokens > check_tokens_at(pass.position)) {
      fail(kStatusBadArgument, "drafts are checked %d tokens at a time from position %d", check_tokens_at(pass.position), pass.position);
    }
    CUDA(cudaMemsetAsync(pass.words, 0xff, kernel_word_bytes(pass.tokens), stream));
  }

  void address(Pass& pass, const PassRequest& request, int launch) override {
    if (!pass.batch) pass.next += request.slot;
    pass.reply = replies_ + int64_t{launch} * reply_words_;
    std::fill_n(pass.reply, pass.check || pass.batch ? request.count : request.steps, 0u);  // none is there yet
  }

  bool chooses_behind() const override { return true; }

  void choose(Pass& pass, const std::vector<ChosenBy>& rows, float* masked, cudaStream_t stream) override {
    if (!pass.batch) pass.bias = rows[0].bias;
    RowMasks masks{};
    bool any = false;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (pass.batch) pass.rows[i].bias = rows[i].bias;
      masks.words[i] = rows[i].mask;
      masks.vocab[i] = rows[i].mask_vocab;
      any |= rows[i].mask != nullptr;
    }
    check_cuda(kernel_choose(pass, masks, any ? masked : nullptr, stream), "kernel_choose");
  }

  unsigned reply(const Launch& launch, int step) const override {
    return static_cast<volatile unsigned*>(launch.pass.reply)[step];  // the kernel writes it
  }

  std::string failure(const Launch& launch, cudaStream_t stream) override {
    const unsigned* const status = failures_ + launch.slot * kStatusWords;
    if (status[0] == 0) return "";
    cudaMemsetAsync(launch.pass.status, 0, kStatusWords * sizeof(unsigned), stream);  // fails again at the next launch if it fails
    // place_of() in stream/watch.cuh
    const unsigned kind = status[1] >> 24, layer = status[1] >> 8 & 0xffff, stage = status[1] & 255;
    return "block " + std::to_string(status[0] - 1) + " waited too long for " + (kind == 0 ? "words of another block" : "its weights") +
           " in stage " + stage_name(int(stage)) + (layer < kLayers ? " of layer " + std::to_string(layer) : "");
  }

  // A token takes longer than this on any GPU, but a sleep takes three to six times what it is asked for: too long for a first token.
  void pause(const Launch& launch) const override {
    if (launch.steps == 1) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }

 private:
  static int tiles_before(int position) { return (position + kKvTile - 1) / kKvTile; }

  static constexpr int kStatusWords = 2;

  const Times times_ = times_of_environment();
  char* kept_ = nullptr;              // [kKeptBytes]
  char* stream_ = nullptr;            // [kStreamBytes]
  Staging staging_;
  unsigned* failures_ = nullptr;      // [kMaxOutstanding][kStatusWords], pinned
  int reply_words_ = 0;               // of a launch
  unsigned* replies_ = nullptr;       // [kMaxOutstanding][reply_words_], pinned
  unsigned* stop_request_ = nullptr;  // [1], pinned
  LaunchInts stops_;                  // [kMostStops] each
};
