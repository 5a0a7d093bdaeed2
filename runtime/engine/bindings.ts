// Do not edit: npm run golden -- --update prints it from the table in abi/abi.ts.
// The C interface of every generated library, typed for koffi.
import koffi, { type LibraryHandle } from 'koffi';

/** Of the table this file was printed from. */
export const abiVersion = 10;

/** What functions that return int32_t answer, and Progress.status. */
export const abiStatus = {
  ok: 0,
  badArgument: 1,
  outOfMemory: 2,
  io: 3,
  device: 4,
  busy: 5,
  capacity: 6,
  internal: 7,
  notFinite: 8,
} as const;

/** Progress.state. */
export const jobState = {
  idle: 0,
  running: 1,
  done: 2,
  failed: 3,
} as const;

/** Progress.finish. */
export const finishCode = {
  none: 0,
  stop: 1,
  length: 2,
  aborted: 3,
  context: 4,
} as const;

/** What a byte of the channel says. */
export const toldByte = {
  news: 1,
  end: 2,
} as const;

/** TensorSource.dtype; a weight slot has one of the first three, or q8_0, q4_0, q4_1 or f8_block. */
export const sourceDtype = {
  bf16: 0,
  fp16: 1,
  fp32: 2,
  random: 3,
  q8_0: 4,
  q4_0: 5,
  q4_1: 6,
  q5_0: 7,
  q5_1: 8,
  q4_k: 9,
  q5_k: 10,
  q6_k: 11,
  f8: 12,
  i8: 13,
  packed4: 14,
  packed8: 15,
  gptq4: 16,
  gptq8: 17,
  awq4: 18,
  f8_block: 19,
} as const;

/** ProfileEvent.phase. */
export const profilePhase = {
  weights: 0,
  others: 1,
  compute: 2,
  meet: 3,
  publish: 4,
} as const;

/** ProfileEvent.role. */
export const profileRole = {
  block: 0,
  first: 1,
  last: 2,
  producer: 3,
  publisher: 4,
} as const;

/** Memory of a typed array, which C reads or writes in place, or an address. */
export type Pointer = Int32Array | Float32Array | Uint8Array | bigint | null;

/** koffi gives a number where that is exact, else a bigint. */
export type Int64 = number | bigint;

/** The address of an engine. */
export type EngineHandle = bigint;

/** What a library was generated for. */
export interface Description {
  /** abiVersion of the generator */
  abi: number;
  /** most tokens one pass takes */
  pass_tokens: number;
  /** rows of the LM head, and floats of one logits row */
  vocab: number;
  /** weight slots, see the manifest */
  slots: number;
  /** size of the packed weights */
  weight_bytes: Int64;
  /** hash of the generator's inputs, as in the manifest */
  hash: string | null;
}

const descriptionType = koffi.struct({
  abi: 'int32_t',
  pass_tokens: 'int32_t',
  vocab: 'int32_t',
  slots: 'int32_t',
  weight_bytes: 'int64_t',
  hash: 'str',
});

/** Fixed for the life of an engine. */
export interface EngineOptions {
  /** GPU ordinal; ignored by the CPU target */
  device: number;
  /** CPU threads; 0: as many as physical cores; ignored by the CUDA target */
  threads: number;
  /** positions of each sequence of the KV cache */
  context: number;
  /** sequences of the KV cache, from 1 to 16 */
  sequences: number;
  /** CPU path: 0 best found, 1 plain C++, 2 AVX2, 3 AVX-512, 4 AVX-512-BF16 */
  isa: number;
}

const engineOptionsType = koffi.struct({
  device: 'int32_t',
  threads: 'int32_t',
  context: 'int32_t',
  sequences: 'int32_t',
  isa: 'int32_t',
});

/** Scales of codes: number = (code - zero point) * scale. Of others than codes nothing is read. */
export interface Packing {
  /** file of the scales; null: the tensor is no codes */
  scales: string | null;
  /** first byte in the file */
  scales_offset: Int64;
  /** sourceDtype, a plain one */
  scales_dtype: number;
  /** rows that share a scale */
  group_rows: number;
  /** columns that share a scale */
  group_columns: number;
  /** file of the zero points, packed as the format has it; null: none */
  zeros: string | null;
  /** first byte in the file */
  zeros_offset: Int64;
  /** what is added to a stored zero point: 1 in the first format of GPTQ */
  zeros_added: number;
  /** rows of the matrix in the file, of which the tensor may be some */
  file_rows: number;
}

const packingType = koffi.struct({
  scales: 'str',
  scales_offset: 'int64_t',
  scales_dtype: 'int32_t',
  group_rows: 'int32_t',
  group_columns: 'int32_t',
  zeros: 'str',
  zeros_offset: 'int64_t',
  zeros_added: 'int32_t',
  file_rows: 'int32_t',
});

/** Where the data of one weight slot comes from. */
export interface TensorSource {
  /** file; null for random weights */
  path: string | null;
  /** first byte in the file */
  offset: Int64;
  /** index into the manifest slots */
  slot: number;
  /** sourceDtype */
  dtype: number;
  /** rows of a head in which the two of a rotary pair lie next to each other; 0: rows as in the slot */
  head_rows: number;
  /** random weights: seed of this tensor */
  seed: Int64;
  /** random weights: mean */
  mean: number;
  /** random weights: standard deviation */
  scale: number;
  packing: Packing;
}

const tensorSourceType = koffi.struct({
  path: 'str',
  offset: 'int64_t',
  slot: 'int32_t',
  dtype: 'int32_t',
  head_rows: 'int32_t',
  seed: 'uint64_t',
  mean: 'float',
  scale: 'float',
  packing: packingType,
});

/** How the next token is chosen; the order of operations is that of transformers. */
export interface Sampling {
  /** 0: greedy */
  temperature: number;
  /** 0: off */
  top_k: number;
  /** 1: off */
  top_p: number;
  /** 0: off */
  min_p: number;
  /** 1: off */
  repetition_penalty: number;
  /** 0: off */
  presence_penalty: number;
  /** 0: off */
  frequency_penalty: number;
  /** same seed, same text */
  seed: Int64;
  /** the tokenizer's size; rows from here on are never chosen */
  vocab: number;
}

const samplingType = koffi.struct({
  temperature: 'float',
  top_k: 'int32_t',
  top_p: 'float',
  min_p: 'float',
  repetition_penalty: 'float',
  presence_penalty: 'float',
  frequency_penalty: 'float',
  seed: 'uint64_t',
  vocab: 'int32_t',
});

/** One reply: prompt in, up to max_tokens tokens out. */
export interface GenerateArgs {
  /** const int32_t[count], appended at the current position */
  ids: Pointer;
  /** prompt tokens, at least 1 */
  count: number;
  /** at least 1 */
  max_tokens: number;
  /** const int32_t[stop_count]; a stop token is delivered, then generation ends */
  stop_ids: Pointer;
  stop_count: number;
  /** most tokens drafted for a pass to check; 0: none, -1: as many as pay */
  draft_tokens: number;
  /** most of the last tokens that are looked up for drafts, at least 1 */
  draft_ngram: number;
  /** const int32_t[bias_count] */
  bias_ids: Pointer;
  /** const float[bias_count], added to the logits of these tokens before penalties */
  biases: Pointer;
  bias_count: number;
  /** -1: no log probabilities; else those of each token and of so many of the most likely, up to 20 */
  top_logprobs: number;
  /** 1: each token is chosen once ol_mask has said which may be; drafts of such a reply are what ol_expect says, none with draft_tokens 0 */
  masked: number;
  sampling: Sampling;
}

const generateArgsType = koffi.struct({
  ids: 'void *',
  count: 'int32_t',
  max_tokens: 'int32_t',
  stop_ids: 'void *',
  stop_count: 'int32_t',
  draft_tokens: 'int32_t',
  draft_ngram: 'int32_t',
  bias_ids: 'void *',
  biases: 'void *',
  bias_count: 'int32_t',
  top_logprobs: 'int32_t',
  masked: 'int32_t',
  sampling: samplingType,
});

/** A teacher-forced pass. */
export interface ScoreArgs {
  /** const int32_t[count], appended at the current position */
  ids: Pointer;
  count: number;
  /** logits are wanted for tokens [first, count) */
  first: number;
}

const scoreArgsType = koffi.struct({
  ids: 'void *',
  count: 'int32_t',
  first: 'int32_t',
});

/** State of the job that runs, or ran last. */
export interface Progress {
  /** jobState */
  state: number;
  /** status code when failed */
  status: number;
  /** finishCode of a finished generate */
  finish: number;
  /** tokens written by this poll */
  tokens: number;
  /** positions in the KV cache */
  position: number;
  /** load: bytes packed; generate and score: tokens so far */
  done: Int64;
  /** load: bytes in all */
  total: Int64;
  /** time from start to the first token */
  prefill_ms: number;
  /** time from the first token to the last */
  decode_ms: number;
  /** generate: tokens drafted */
  drafted: number;
  /** generate: drafts that were right, those behind the end of the reply too */
  accepted: number;
  /** generate: status code of why the engine that drafts gave up */
  draft_status: number;
}

const progressType = koffi.struct({
  state: 'int32_t',
  status: 'int32_t',
  finish: 'int32_t',
  tokens: 'int32_t',
  position: 'int32_t',
  done: 'int64_t',
  total: 'int64_t',
  prefill_ms: 'double',
  decode_ms: 'double',
  drafted: 'int32_t',
  accepted: 'int32_t',
  draft_status: 'int32_t',
});

/** A stretch of time of one track. The events of a track lie behind each other, without a gap inside a pass. */
export interface ProfileEvent {
  /** [ns] of one clock for all events of an engine */
  begin: Int64;
  /** [ns] */
  end: Int64;
  /** block of the launch, or thread of the team */
  block: number;
  /** profileRole */
  role: number;
  /** index into the stages of the plan */
  stage: number;
  /** the number of layers where the stage is outside them */
  layer: number;
  /** profilePhase */
  phase: number;
  /** of the pass's first token */
  position: number;
}

const profileEventType = koffi.struct({
  begin: 'int64_t',
  end: 'int64_t',
  block: 'int32_t',
  role: 'int32_t',
  stage: 'int32_t',
  layer: 'int32_t',
  phase: 'int32_t',
  position: 'int32_t',
});

/** An object for the library to fill. */
export const zeroDescription = (): Description => ({
  abi: 0,
  pass_tokens: 0,
  vocab: 0,
  slots: 0,
  weight_bytes: 0,
  hash: null,
});

/** An object for the library to fill. */
export const zeroProgress = (): Progress => ({
  state: 0,
  status: 0,
  finish: 0,
  tokens: 0,
  position: 0,
  done: 0,
  total: 0,
  prefill_ms: 0,
  decode_ms: 0,
  drafted: 0,
  accepted: 0,
  draft_status: 0,
});

/** Sizes and offsets [bytes] that koffi and the library must agree with, in table order. */
export const layout = [
  {
    name: 'Description',
    type: descriptionType,
    size: 32,
    offsets: {
      abi: 0,
      pass_tokens: 4,
      vocab: 8,
      slots: 12,
      weight_bytes: 16,
      hash: 24,
    },
  },
  {
    name: 'EngineOptions',
    type: engineOptionsType,
    size: 20,
    offsets: {
      device: 0,
      threads: 4,
      context: 8,
      sequences: 12,
      isa: 16,
    },
  },
  {
    name: 'Packing',
    type: packingType,
    size: 56,
    offsets: {
      scales: 0,
      scales_offset: 8,
      scales_dtype: 16,
      group_rows: 20,
      group_columns: 24,
      zeros: 32,
      zeros_offset: 40,
      zeros_added: 48,
      file_rows: 52,
    },
  },
  {
    name: 'TensorSource',
    type: tensorSourceType,
    size: 104,
    offsets: {
      path: 0,
      offset: 8,
      slot: 16,
      dtype: 20,
      head_rows: 24,
      seed: 32,
      mean: 40,
      scale: 44,
      packing: 48,
    },
  },
  {
    name: 'Sampling',
    type: samplingType,
    size: 48,
    offsets: {
      temperature: 0,
      top_k: 4,
      top_p: 8,
      min_p: 12,
      repetition_penalty: 16,
      presence_penalty: 20,
      frequency_penalty: 24,
      seed: 32,
      vocab: 40,
    },
  },
  {
    name: 'GenerateArgs',
    type: generateArgsType,
    size: 120,
    offsets: {
      ids: 0,
      count: 8,
      max_tokens: 12,
      stop_ids: 16,
      stop_count: 24,
      draft_tokens: 28,
      draft_ngram: 32,
      bias_ids: 40,
      biases: 48,
      bias_count: 56,
      top_logprobs: 60,
      masked: 64,
      sampling: 72,
    },
  },
  {
    name: 'ScoreArgs',
    type: scoreArgsType,
    size: 16,
    offsets: {
      ids: 0,
      count: 8,
      first: 12,
    },
  },
  {
    name: 'Progress',
    type: progressType,
    size: 72,
    offsets: {
      state: 0,
      status: 4,
      finish: 8,
      tokens: 12,
      position: 16,
      done: 24,
      total: 32,
      prefill_ms: 40,
      decode_ms: 48,
      drafted: 56,
      accepted: 60,
      draft_status: 64,
    },
  },
  {
    name: 'ProfileEvent',
    type: profileEventType,
    size: 40,
    offsets: {
      begin: 0,
      end: 8,
      block: 16,
      role: 20,
      stage: 24,
      layer: 28,
      phase: 32,
      position: 36,
    },
  },
] as const;

/** The functions of one library. Those that return a status return a value of abiStatus. */
export interface Functions {
  /** Fills out. */
  ol_describe(out: Description): number;
  /** Struct sizes and field offsets as compiled, in table order: size, offsets, size, offsets, ...; -1 past the end. */
  ol_layout(index: number): Int64;
  /** Makes a pair of connected sockets. int32_t ends[2]: the first is for the caller to read and to close, the second for ol_create. */
  ol_channel(ends: Pointer): number;
  /** Allocates everything the engine will use. The channel is its own from here on, also when this fails: a toldByte for each time that ol_poll has something new. Once the other end is closed, the engine closes itself. */
  ol_create(options: EngineOptions, channel: number, out: [EngineHandle | null]): number;
  /** Starts reading and packing the weights. The sources are copied. */
  ol_load(engine: EngineHandle | null, sources: readonly TensorSource[], count: number): number;
  /** Starts a reply; tokens arrive through ol_poll. The arrays are copied. */
  ol_generate(engine: EngineHandle | null, args: GenerateArgs): number;
  /** Address of the function by which engines of this library draft for others, for ol_draft_with. */
  ol_drafter(): Int64;
  /** From here on another engine drafts for replies that look for drafts: one of the library that gave this drafter, whose LM head has so many rows. It has no jobs of its own, and is closed behind this one. */
  ol_draft_with(engine: EngineHandle | null, draft: Pointer, drafter: Pointer, vocab: number): number;
  /** Starts a teacher-forced pass; its logits are kept for ol_logits. */
  ol_score(engine: EngineHandle | null, args: ScoreArgs): number;
  /** Copies out the logits of the last ol_score, float[count - first][vocab], and frees them. */
  ol_logits(engine: EngineHandle | null, out: Pointer, rows: number): number;
  /** Never blocks: copies out new tokens and the state of the job. */
  ol_poll(engine: EngineHandle | null, out: Progress, tokens: Pointer, capacity: number): number;
  /** Of the n tokens of the last ol_poll: int32_t ids[n][1 + top] and float logprobs[n][1 + top], the token itself first, then the most likely ones by rank. Natural logs of the softmax of all logits, before bias, penalties and temperature; the most likely are below sampling.vocab. */
  ol_logprobs(engine: EngineHandle | null, ids: Pointer, logprobs: Pointer, capacity: number): number;
  /** Which tokens may be chosen next by a masked reply that runs: uint32_t words[count], of token id the bit id % 32 of word id / 32, for all below sampling.vocab; no words: any token. To be given once for each token, from the start of the reply on, but for those behind tokens that were expected and came; behind its end it is not looked at. expects: 1 if ol_expect is called next. */
  ol_mask(engine: EngineHandle | null, words: Pointer, count: number, expects: number): number;
  /** Which tokens are expected by whoever gave the last mask: int32_t tokens[count], the first of them chosen by that mask, and which may be chosen behind each, uint32_t words[count][width]. They are checked several in a pass. It changes no token, but which masks are still to be given. */
  ol_expect(
    engine: EngineHandle | null,
    tokens: Pointer,
    count: number,
    words: Pointer,
    width: number,
  ): number;
  /** Asks the job to end; it ends within one token. */
  ol_stop(engine: EngineHandle | null): number;
  /** Forgets all positions from length on. */
  ol_reset(engine: EngineHandle | null, length: number): number;
  /** int32_t slot[1]: the number of an empty sequence, which is then open. Slot 0 is given out last, and only while the sequence of ol_generate is empty. */
  ol_sequence_open(engine: EngineHandle | null, slot: Pointer): number;
  /** As ol_generate, in an open sequence and beside the jobs of others. Drafts are checked where it decodes alone, on a device of its own. */
  ol_sequence_generate(engine: EngineHandle | null, slot: number, args: GenerateArgs): number;
  /** As ol_score, in an open sequence and beside the jobs of others; its logits are kept for ol_sequence_logits. */
  ol_sequence_score(engine: EngineHandle | null, slot: number, args: ScoreArgs): number;
  /** Copies out the logits of the last ol_sequence_score of a sequence, and frees them. */
  ol_sequence_logits(engine: EngineHandle | null, slot: number, out: Pointer, rows: number): number;
  /** Never blocks: copies out new tokens and the state of the job of a sequence. */
  ol_sequence_poll(
    engine: EngineHandle | null,
    slot: number,
    out: Progress,
    tokens: Pointer,
    capacity: number,
  ): number;
  /** As ol_logprobs, of the last ol_sequence_poll. */
  ol_sequence_logprobs(
    engine: EngineHandle | null,
    slot: number,
    ids: Pointer,
    logprobs: Pointer,
    capacity: number,
  ): number;
  /** As ol_mask, for the reply of a sequence; passes of others do not wait for it. */
  ol_sequence_mask(
    engine: EngineHandle | null,
    slot: number,
    words: Pointer,
    count: number,
    expects: number,
  ): number;
  /** As ol_expect, for the reply of a sequence. Its passes check none: their masks are there before they are waited for. */
  ol_sequence_expect(
    engine: EngineHandle | null,
    slot: number,
    tokens: Pointer,
    count: number,
    words: Pointer,
    width: number,
  ): number;
  /** Asks the job of a sequence to end; it ends within one pass, and others go on. */
  ol_sequence_stop(engine: EngineHandle | null, slot: number): number;
  /** Forgets the positions of an open sequence from length on. */
  ol_sequence_reset(engine: EngineHandle | null, slot: number, length: number): number;
  /** Gives a sequence back. It must have no job. */
  ol_sequence_close(engine: EngineHandle | null, slot: number): number;
  /** Gives an open sequence the first length positions of another in place of its own. The other may have a job: positions that it has by now. */
  ol_sequence_copy(engine: EngineHandle | null, slot: number, source: number, length: number): number;
  /** Bytes of a position of a sequence in the KV cache; -1 without an engine. */
  ol_cache_bytes(engine: EngineHandle | null): Int64;
  /** Copies out positions [position, position + count) of an open sequence, or, without a job, of that of ol_generate, slot -1: ol_cache_bytes of each. How they lie is the business of this library. */
  ol_cache_read(
    engine: EngineHandle | null,
    slot: number,
    position: number,
    count: number,
    out: Pointer,
  ): number;
  /** Appends what ol_cache_read has copied out of a library of the same sources: int32_t ids[count], and their bytes. */
  ol_cache_write(
    engine: EngineHandle | null,
    slot: number,
    ids: Pointer,
    count: number,
    bytes: Pointer,
  ): number;
  /** int32_t counts[2]: events recorded since they were last fetched, and those that found no room. Fetches all of them where the capacity is enough: ProfileEvent[capacity]. Fails in a library that was not built for profiling. */
  ol_profile(engine: EngineHandle | null, events: Pointer, capacity: number, counts: Pointer): number;
  /** What the engine runs on, for people: a GPU name, or a CPU path with its threads. */
  ol_device(engine: EngineHandle | null): string | null;
  /** Text of the last error, `stage: text` where a stage failed. A null engine: of the last ol_create on this thread. */
  ol_error(engine: EngineHandle | null): string | null;
  /** Stops the job, joins the threads, frees everything. Null is allowed. */
  ol_close(engine: EngineHandle | null): void;
}

const enginePointer = koffi.pointer(koffi.opaque());

/**
 * Finds every function of the table in a library.
 * @throws when one is missing
 */
export function bindFunctions(library: LibraryHandle): Functions {
  return {
    ol_describe: library.func('ol_describe', 'int32_t', [koffi.out(koffi.pointer(descriptionType))]),
    ol_layout: library.func('ol_layout', 'int64_t', ['int32_t']),
    ol_channel: library.func('ol_channel', 'int32_t', ['void *']),
    ol_create: library.func('ol_create', 'int32_t', [
      koffi.pointer(engineOptionsType),
      'int32_t',
      koffi.out(koffi.pointer(enginePointer)),
    ]),
    ol_load: library.func('ol_load', 'int32_t', [enginePointer, koffi.pointer(tensorSourceType), 'int32_t']),
    ol_generate: library.func('ol_generate', 'int32_t', [enginePointer, koffi.pointer(generateArgsType)]),
    ol_drafter: library.func('ol_drafter', 'int64_t', []),
    ol_draft_with: library.func('ol_draft_with', 'int32_t', [enginePointer, 'void *', 'void *', 'int32_t']),
    ol_score: library.func('ol_score', 'int32_t', [enginePointer, koffi.pointer(scoreArgsType)]),
    ol_logits: library.func('ol_logits', 'int32_t', [enginePointer, 'void *', 'int32_t']),
    ol_poll: library.func('ol_poll', 'int32_t', [
      enginePointer,
      koffi.out(koffi.pointer(progressType)),
      'void *',
      'int32_t',
    ]),
    ol_logprobs: library.func('ol_logprobs', 'int32_t', [enginePointer, 'void *', 'void *', 'int32_t']),
    ol_mask: library.func('ol_mask', 'int32_t', [enginePointer, 'void *', 'int32_t', 'int32_t']),
    ol_expect: library.func('ol_expect', 'int32_t', [
      enginePointer,
      'void *',
      'int32_t',
      'void *',
      'int32_t',
    ]),
    ol_stop: library.func('ol_stop', 'int32_t', [enginePointer]),
    ol_reset: library.func('ol_reset', 'int32_t', [enginePointer, 'int32_t']),
    ol_sequence_open: library.func('ol_sequence_open', 'int32_t', [enginePointer, 'void *']),
    ol_sequence_generate: library.func('ol_sequence_generate', 'int32_t', [
      enginePointer,
      'int32_t',
      koffi.pointer(generateArgsType),
    ]),
    ol_sequence_score: library.func('ol_sequence_score', 'int32_t', [
      enginePointer,
      'int32_t',
      koffi.pointer(scoreArgsType),
    ]),
    ol_sequence_logits: library.func('ol_sequence_logits', 'int32_t', [
      enginePointer,
      'int32_t',
      'void *',
      'int32_t',
    ]),
    ol_sequence_poll: library.func('ol_sequence_poll', 'int32_t', [
      enginePointer,
      'int32_t',
      koffi.out(koffi.pointer(progressType)),
      'void *',
      'int32_t',
    ]),
    ol_sequence_logprobs: library.func('ol_sequence_logprobs', 'int32_t', [
      enginePointer,
      'int32_t',
      'void *',
      'void *',
      'int32_t',
    ]),
    ol_sequence_mask: library.func('ol_sequence_mask', 'int32_t', [
      enginePointer,
      'int32_t',
      'void *',
      'int32_t',
      'int32_t',
    ]),
    ol_sequence_expect: library.func('ol_sequence_expect', 'int32_t', [
      enginePointer,
      'int32_t',
      'void *',
      'int32_t',
      'void *',
      'int32_t',
    ]),
    ol_sequence_stop: library.func('ol_sequence_stop', 'int32_t', [enginePointer, 'int32_t']),
    ol_sequence_reset: library.func('ol_sequence_reset', 'int32_t', [enginePointer, 'int32_t', 'int32_t']),
    ol_sequence_close: library.func('ol_sequence_close', 'int32_t', [enginePointer, 'int32_t']),
    ol_sequence_copy: library.func('ol_sequence_copy', 'int32_t', [
      enginePointer,
      'int32_t',
      'int32_t',
      'int32_t',
    ]),
    ol_cache_bytes: library.func('ol_cache_bytes', 'int64_t', [enginePointer]),
    ol_cache_read: library.func('ol_cache_read', 'int32_t', [
      enginePointer,
      'int32_t',
      'int32_t',
      'int32_t',
      'void *',
    ]),
    ol_cache_write: library.func('ol_cache_write', 'int32_t', [
      enginePointer,
      'int32_t',
      'void *',
      'int32_t',
      'void *',
    ]),
    ol_profile: library.func('ol_profile', 'int32_t', [enginePointer, 'void *', 'int32_t', 'void *']),
    ol_device: library.func('ol_device', 'str', [enginePointer]),
    ol_error: library.func('ol_error', 'str', [enginePointer]),
    ol_close: library.func('ol_close', 'void', [enginePointer]),
  };
}
