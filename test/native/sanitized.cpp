// A CPU library through its own interface, to be compiled with sanitizers: loads, replies, scores, forgets, ends early and closes.
//   sanitized SOURCES TOKENS     a line of SOURCES for each weight slot: path, offset, slot, dtype. Prints the tokens of its greedy reply.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "abi.h"

namespace {

void check(int32_t status, Engine* engine, const char* what) {
  if (status == kStatusOk) return;
  std::fprintf(stderr, "%s: status %d: %s\n", what, status, ol_error(engine));
  std::exit(1);
}

/** The end of the job that runs, and the tokens it made. */
std::vector<int32_t> finish(Engine* engine, bool stop = false) {
  std::vector<int32_t> made;
  std::vector<int32_t> batch(7);
  Progress progress{};
  for (;;) {
    if (stop && !made.empty()) check(ol_stop(engine), engine, "ol_stop");
    check(ol_poll(engine, &progress, batch.data(), static_cast<int32_t>(batch.size())), engine, "ol_poll");
    made.insert(made.end(), batch.begin(), batch.begin() + progress.tokens);
    if (progress.state != kJobRunning && progress.tokens < static_cast<int32_t>(batch.size())) break;
    std::this_thread::yield();
  }
  check(progress.state == kJobFailed ? progress.status : kStatusOk, engine, "job");
  return made;
}

std::vector<int32_t> reply(Engine* engine, std::vector<int32_t> prompt, int32_t tokens, const Sampling& sampling, bool stop = false) {
  std::vector<int32_t> stops{1 << 20};
  GenerateArgs args{};
  args.ids = prompt.data(), args.count = static_cast<int32_t>(prompt.size()), args.max_tokens = tokens;
  args.stop_ids = stops.data(), args.stop_count = 0, args.sampling = sampling, args.top_logprobs = -1;
  check(ol_generate(engine, &args), engine, "ol_generate");
  return finish(engine, stop);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::vector<std::string> paths;
  std::vector<TensorSource> sources;
  std::ifstream file(argv[1]);
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string path;
    TensorSource source{};
    in >> path >> source.offset >> source.slot >> source.dtype;
    paths.push_back(path), sources.push_back(source);
  }
  for (size_t i = 0; i < paths.size(); ++i) sources[i].path = paths[i].c_str();

  Description description{};
  check(ol_describe(&description), nullptr, "ol_describe");
  const EngineOptions options{0, 2, 64, 1, 0};
  int32_t ends[2];
  check(ol_channel(ends), nullptr, "ol_channel");
  Engine* engine = nullptr;
  check(ol_create(&options, ends[1], &engine), nullptr, "ol_create");
  check(ol_load(engine, sources.data(), static_cast<int32_t>(sources.size())), engine, "ol_load");
  finish(engine);

  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 21; ++i) prompt.push_back(i * 3 + 1);
  const Sampling greedy{0, 0, 1, 0, 1, 0, 0, 0, description.vocab};
  for (const int32_t token : reply(engine, prompt, std::atoi(argv[2]), greedy)) std::printf("%d ", token);
  std::printf("\n");

  check(ol_reset(engine, 5), engine, "ol_reset");
  reply(engine, {7, 8}, 9, {0.8f, 20, 0.9f, 0.01f, 1.2f, 0.5f, 0.25f, 3, description.vocab});
  check(ol_reset(engine, 0), engine, "ol_reset");
  ScoreArgs args{prompt.data(), static_cast<int32_t>(prompt.size()), 3};
  check(ol_score(engine, &args), engine, "ol_score");
  finish(engine);
  std::vector<float> logits((prompt.size() - 3) * static_cast<size_t>(description.vocab));
  check(ol_logits(engine, logits.data(), static_cast<int32_t>(prompt.size()) - 3), engine, "ol_logits");
  reply(engine, {2}, 30, greedy, true);
  // More than fits: the reply ends with the context.
  check(ol_reset(engine, 0), engine, "ol_reset");
  reply(engine, prompt, 1000, greedy);
  ol_close(engine);
  close(ends[0]);
  return 0;
}
