// The C interface of every generated library, as one table: the header, the koffi bindings and the layout check are printed from it.

type AbiType = 'i32' | 'i64' | 'u64' | 'f32' | 'f64' | 'str' | 'ptr';

interface AbiField {
  readonly name: string;
  /** A scalar, or the name of a struct defined earlier in the table (embedded by value). */
  readonly type: AbiType | (string & {});
  readonly doc: string;
}

export interface AbiStruct {
  readonly name: string;
  readonly doc: string;
  readonly fields: readonly AbiField[];
}

export interface AbiFunction {
  readonly name: string;
  readonly returns: 'i32' | 'i64' | 'str' | 'void';
  /** `in X`: const X*; `out X`: X*; `engine`: Engine*; `out engine`: Engine**. */
  readonly params: readonly { readonly name: string; readonly type: string }[];
  readonly doc: string;
}

/** Raised whenever a struct or function below changes meaning. */
export const abiVersion = 10;

/** Status codes of every function that returns i32 and of Progress.status. */
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

export const jobState = { idle: 0, running: 1, done: 2, failed: 3 } as const;
export const finishCode = { none: 0, stop: 1, length: 2, aborted: 3, context: 4 } as const;
/** What a byte of the channel says: that there is something new, or that a job has ended, which is told at once though the news before has not been
 *  fetched. */
export const toldByte = { news: 1, end: 2 } as const;
/** TensorSource.dtype: how the bytes are stored in the file; `random` makes the tensor from seed, mean and scale. Those behind it are
 *  blocks of GGUF files, then what quantised checkpoints hold: codes, whose scales are in TensorSource.packing. The last is of slots alone. */
export const sourceDtype = {
  ...{ bf16: 0, fp16: 1, fp32: 2, random: 3 },
  ...{ q8_0: 4, q4_0: 5, q4_1: 6, q5_0: 7, q5_1: 8, q4_k: 9, q5_k: 10, q6_k: 11 },
  ...{ f8: 12, i8: 13, packed4: 14, packed8: 15, gptq4: 16, gptq8: 17, awq4: 18 },
  f8_block: 19,
} as const;

/** ProfileEvent.phase: what a track does meanwhile. `meet`: the warps of one block wait for each other. */
export const profilePhase = { weights: 0, others: 1, compute: 2, meet: 3, publish: 4 } as const;
/** ProfileEvent.role: whose track it is. `first` and `last` are computing warps of a stream; a block at barriers, or a thread of the CPU, is `block`. */
export const profileRole = { block: 0, first: 1, last: 2, producer: 3, publisher: 4 } as const;

const field = (name: string, type: AbiField['type'], doc: string): AbiField => ({ name, type, doc });

export const abiStructs: readonly AbiStruct[] = [
  {
    name: 'Description',
    doc: 'What a library was generated for.',
    fields: [
      field('abi', 'i32', 'abiVersion of the generator'),
      field('pass_tokens', 'i32', 'most tokens one pass takes'),
      field('vocab', 'i32', 'rows of the LM head, and floats of one logits row'),
      field('slots', 'i32', 'weight slots, see the manifest'),
      field('weight_bytes', 'i64', 'size of the packed weights'),
      field('hash', 'str', "hash of the generator's inputs, as in the manifest"),
    ],
  },
  {
    name: 'EngineOptions',
    doc: 'Fixed for the life of an engine.',
    fields: [
      field('device', 'i32', 'GPU ordinal; ignored by the CPU target'),
      field('threads', 'i32', 'CPU threads; 0: as many as physical cores; ignored by the CUDA target'),
      field('context', 'i32', 'positions of each sequence of the KV cache'),
      field('sequences', 'i32', 'sequences of the KV cache, from 1 to 16'),
      field('isa', 'i32', 'CPU path: 0 best found, 1 plain C++, 2 AVX2, 3 AVX-512, 4 AVX-512-BF16'),
    ],
  },
  {
    name: 'Packing',
    doc: 'Scales of codes: number = (code - zero point) * scale. Of others than codes nothing is read.',
    fields: [
      field('scales', 'str', 'file of the scales; null: the tensor is no codes'),
      field('scales_offset', 'i64', 'first byte in the file'),
      field('scales_dtype', 'i32', 'sourceDtype, a plain one'),
      field('group_rows', 'i32', 'rows that share a scale'),
      field('group_columns', 'i32', 'columns that share a scale'),
      field('zeros', 'str', 'file of the zero points, packed as the format has it; null: none'),
      field('zeros_offset', 'i64', 'first byte in the file'),
      field('zeros_added', 'i32', 'what is added to a stored zero point: 1 in the first format of GPTQ'),
      field('file_rows', 'i32', 'rows of the matrix in the file, of which the tensor may be some'),
    ],
  },
  {
    name: 'TensorSource',
    doc: 'Where the data of one weight slot comes from.',
    fields: [
      field('path', 'str', 'file; null for random weights'),
      field('offset', 'i64', 'first byte in the file'),
      field('slot', 'i32', 'index into the manifest slots'),
      field('dtype', 'i32', 'sourceDtype'),
      field(
        'head_rows',
        'i32',
        'rows of a head in which the two of a rotary pair lie next to each other; 0: rows as in the slot',
      ),
      field('seed', 'u64', 'random weights: seed of this tensor'),
      field('mean', 'f32', 'random weights: mean'),
      field('scale', 'f32', 'random weights: standard deviation'),
      field('packing', 'Packing', ''),
    ],
  },
  {
    name: 'Sampling',
    doc: 'How the next token is chosen; the order of operations is that of transformers.',
    fields: [
      field('temperature', 'f32', '0: greedy'),
      field('top_k', 'i32', '0: off'),
      field('top_p', 'f32', '1: off'),
      field('min_p', 'f32', '0: off'),
      field('repetition_penalty', 'f32', '1: off'),
      field('presence_penalty', 'f32', '0: off'),
      field('frequency_penalty', 'f32', '0: off'),
      field('seed', 'u64', 'same seed, same text'),
      field('vocab', 'i32', "the tokenizer's size; rows from here on are never chosen"),
    ],
  },
  {
    name: 'GenerateArgs',
    doc: 'One reply: prompt in, up to max_tokens tokens out.',
    fields: [
      field('ids', 'ptr', 'const int32_t[count], appended at the current position'),
      field('count', 'i32', 'prompt tokens, at least 1'),
      field('max_tokens', 'i32', 'at least 1'),
      field('stop_ids', 'ptr', 'const int32_t[stop_count]; a stop token is delivered, then generation ends'),
      field('stop_count', 'i32', ''),
      field('draft_tokens', 'i32', 'most tokens drafted for a pass to check; 0: none, -1: as many as pay'),
      field('draft_ngram', 'i32', 'most of the last tokens that are looked up for drafts, at least 1'),
      field('bias_ids', 'ptr', 'const int32_t[bias_count]'),
      field('biases', 'ptr', 'const float[bias_count], added to the logits of these tokens before penalties'),
      field('bias_count', 'i32', ''),
      field(
        'top_logprobs',
        'i32',
        '-1: no log probabilities; else those of each token and of so many of the most likely, up to 20',
      ),
      field(
        'masked',
        'i32',
        '1: each token is chosen once ol_mask has said which may be; drafts of such a reply are what ol_expect says, none with draft_tokens 0',
      ),
      field('sampling', 'Sampling', ''),
    ],
  },
  {
    name: 'ScoreArgs',
    doc: 'A teacher-forced pass.',
    fields: [
      field('ids', 'ptr', 'const int32_t[count], appended at the current position'),
      field('count', 'i32', ''),
      field('first', 'i32', 'logits are wanted for tokens [first, count)'),
    ],
  },
  {
    name: 'Progress',
    doc: 'State of the job that runs, or ran last.',
    fields: [
      field('state', 'i32', 'jobState'),
      field('status', 'i32', 'status code when failed'),
      field('finish', 'i32', 'finishCode of a finished generate'),
      field('tokens', 'i32', 'tokens written by this poll'),
      field('position', 'i32', 'positions in the KV cache'),
      field('done', 'i64', 'load: bytes packed; generate and score: tokens so far'),
      field('total', 'i64', 'load: bytes in all'),
      field('prefill_ms', 'f64', 'time from start to the first token'),
      field('decode_ms', 'f64', 'time from the first token to the last'),
      field('drafted', 'i32', 'generate: tokens drafted'),
      field('accepted', 'i32', 'generate: drafts that were right, those behind the end of the reply too'),
      field('draft_status', 'i32', 'generate: status code of why the engine that drafts gave up'),
    ],
  },
  {
    name: 'ProfileEvent',
    doc: 'A stretch of time of one track. The events of a track lie behind each other, without a gap inside a pass.',
    fields: [
      field('begin', 'i64', '[ns] of one clock for all events of an engine'),
      field('end', 'i64', '[ns]'),
      field('block', 'i32', 'block of the launch, or thread of the team'),
      field('role', 'i32', 'profileRole'),
      field('stage', 'i32', 'index into the stages of the plan'),
      field('layer', 'i32', 'the number of layers where the stage is outside them'),
      field('phase', 'i32', 'profilePhase'),
      field('position', 'i32', "of the pass's first token"),
    ],
  },
];

const param = (name: string, type: string) => ({ name, type });

export const abiFunctions: readonly AbiFunction[] = [
  { name: 'ol_describe', returns: 'i32', params: [param('out', 'out Description')], doc: 'Fills out.' },
  {
    name: 'ol_layout',
    returns: 'i64',
    params: [param('index', 'i32')],
    doc: 'Struct sizes and field offsets as compiled, in table order: size, offsets, size, offsets, ...; -1 past the end.',
  },
  {
    name: 'ol_channel',
    returns: 'i32',
    params: [param('ends', 'ptr')],
    doc: 'Makes a pair of connected sockets. int32_t ends[2]: the first is for the caller to read and to close, the second for ol_create.',
  },
  {
    name: 'ol_create',
    returns: 'i32',
    params: [param('options', 'in EngineOptions'), param('channel', 'i32'), param('out', 'out engine')],
    doc: 'Allocates everything the engine will use. The channel is its own from here on, also when this fails: a toldByte for each time that ol_poll has something new. Once the other end is closed, the engine closes itself.',
  },
  {
    name: 'ol_load',
    returns: 'i32',
    params: [param('engine', 'engine'), param('sources', 'in TensorSource'), param('count', 'i32')],
    doc: 'Starts reading and packing the weights. The sources are copied.',
  },
  {
    name: 'ol_generate',
    returns: 'i32',
    params: [param('engine', 'engine'), param('args', 'in GenerateArgs')],
    doc: 'Starts a reply; tokens arrive through ol_poll. The arrays are copied.',
  },
  {
    name: 'ol_drafter',
    returns: 'i64',
    params: [],
    doc: 'Address of the function by which engines of this library draft for others, for ol_draft_with.',
  },
  {
    name: 'ol_draft_with',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('draft', 'ptr'),
      param('drafter', 'ptr'),
      param('vocab', 'i32'),
    ],
    doc: 'From here on another engine drafts for replies that look for drafts: one of the library that gave this drafter, whose LM head has so many rows. It has no jobs of its own, and is closed behind this one.',
  },
  {
    name: 'ol_score',
    returns: 'i32',
    params: [param('engine', 'engine'), param('args', 'in ScoreArgs')],
    doc: 'Starts a teacher-forced pass; its logits are kept for ol_logits.',
  },
  {
    name: 'ol_logits',
    returns: 'i32',
    params: [param('engine', 'engine'), param('out', 'ptr'), param('rows', 'i32')],
    doc: 'Copies out the logits of the last ol_score, float[count - first][vocab], and frees them.',
  },
  {
    name: 'ol_poll',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('out', 'out Progress'),
      param('tokens', 'ptr'),
      param('capacity', 'i32'),
    ],
    doc: 'Never blocks: copies out new tokens and the state of the job.',
  },
  {
    name: 'ol_logprobs',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('ids', 'ptr'),
      param('logprobs', 'ptr'),
      param('capacity', 'i32'),
    ],
    doc: 'Of the n tokens of the last ol_poll: int32_t ids[n][1 + top] and float logprobs[n][1 + top], the token itself first, then the most likely ones by rank. Natural logs of the softmax of all logits, before bias, penalties and temperature; the most likely are below sampling.vocab.',
  },
  {
    name: 'ol_mask',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('words', 'ptr'),
      param('count', 'i32'),
      param('expects', 'i32'),
    ],
    doc: 'Which tokens may be chosen next by a masked reply that runs: uint32_t words[count], of token id the bit id % 32 of word id / 32, for all below sampling.vocab; no words: any token. To be given once for each token, from the start of the reply on, but for those behind tokens that were expected and came; behind its end it is not looked at. expects: 1 if ol_expect is called next.',
  },
  {
    name: 'ol_expect',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('tokens', 'ptr'),
      param('count', 'i32'),
      param('words', 'ptr'),
      param('width', 'i32'),
    ],
    doc: 'Which tokens are expected by whoever gave the last mask: int32_t tokens[count], the first of them chosen by that mask, and which may be chosen behind each, uint32_t words[count][width]. They are checked several in a pass. It changes no token, but which masks are still to be given.',
  },
  {
    name: 'ol_stop',
    returns: 'i32',
    params: [param('engine', 'engine')],
    doc: 'Asks the job to end; it ends within one token.',
  },
  {
    name: 'ol_reset',
    returns: 'i32',
    params: [param('engine', 'engine'), param('length', 'i32')],
    doc: 'Forgets all positions from length on.',
  },
  {
    name: 'ol_sequence_open',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'ptr')],
    doc: 'int32_t slot[1]: the number of an empty sequence, which is then open. Slot 0 is given out last, and only while the sequence of ol_generate is empty.',
  },
  {
    name: 'ol_sequence_generate',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'i32'), param('args', 'in GenerateArgs')],
    doc: 'As ol_generate, in an open sequence and beside the jobs of others. Drafts are checked where it decodes alone, on a device of its own.',
  },
  {
    name: 'ol_sequence_score',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'i32'), param('args', 'in ScoreArgs')],
    doc: 'As ol_score, in an open sequence and beside the jobs of others; its logits are kept for ol_sequence_logits.',
  },
  {
    name: 'ol_sequence_logits',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'i32'), param('out', 'ptr'), param('rows', 'i32')],
    doc: 'Copies out the logits of the last ol_sequence_score of a sequence, and frees them.',
  },
  {
    name: 'ol_sequence_poll',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('slot', 'i32'),
      param('out', 'out Progress'),
      param('tokens', 'ptr'),
      param('capacity', 'i32'),
    ],
    doc: 'Never blocks: copies out new tokens and the state of the job of a sequence.',
  },
  {
    name: 'ol_sequence_logprobs',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('slot', 'i32'),
      param('ids', 'ptr'),
      param('logprobs', 'ptr'),
      param('capacity', 'i32'),
    ],
    doc: 'As ol_logprobs, of the last ol_sequence_poll.',
  },
  {
    name: 'ol_sequence_mask',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('slot', 'i32'),
      param('words', 'ptr'),
      param('count', 'i32'),
      param('expects', 'i32'),
    ],
    doc: 'As ol_mask, for the reply of a sequence; passes of others do not wait for it.',
  },
  {
    name: 'ol_sequence_expect',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('slot', 'i32'),
      param('tokens', 'ptr'),
      param('count', 'i32'),
      param('words', 'ptr'),
      param('width', 'i32'),
    ],
    doc: 'As ol_expect, for the reply of a sequence. Its passes check none: their masks are there before they are waited for.',
  },
  {
    name: 'ol_sequence_stop',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'i32')],
    doc: 'Asks the job of a sequence to end; it ends within one pass, and others go on.',
  },
  {
    name: 'ol_sequence_reset',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'i32'), param('length', 'i32')],
    doc: 'Forgets the positions of an open sequence from length on.',
  },
  {
    name: 'ol_sequence_close',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'i32')],
    doc: 'Gives a sequence back. It must have no job.',
  },
  {
    name: 'ol_sequence_copy',
    returns: 'i32',
    params: [param('engine', 'engine'), param('slot', 'i32'), param('source', 'i32'), param('length', 'i32')],
    doc: 'Gives an open sequence the first length positions of another in place of its own. The other may have a job: positions that it has by now.',
  },
  {
    name: 'ol_cache_bytes',
    returns: 'i64',
    params: [param('engine', 'engine')],
    doc: 'Bytes of a position of a sequence in the KV cache; -1 without an engine.',
  },
  {
    name: 'ol_cache_read',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('slot', 'i32'),
      param('position', 'i32'),
      param('count', 'i32'),
      param('out', 'ptr'),
    ],
    doc: 'Copies out positions [position, position + count) of an open sequence, or, without a job, of that of ol_generate, slot -1: ol_cache_bytes of each. How they lie is the business of this library.',
  },
  {
    name: 'ol_cache_write',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('slot', 'i32'),
      param('ids', 'ptr'),
      param('count', 'i32'),
      param('bytes', 'ptr'),
    ],
    doc: 'Appends what ol_cache_read has copied out of a library of the same sources: int32_t ids[count], and their bytes.',
  },
  {
    name: 'ol_profile',
    returns: 'i32',
    params: [
      param('engine', 'engine'),
      param('events', 'ptr'),
      param('capacity', 'i32'),
      param('counts', 'ptr'),
    ],
    doc: 'int32_t counts[2]: events recorded since they were last fetched, and those that found no room. Fetches all of them where the capacity is enough: ProfileEvent[capacity]. Fails in a library that was not built for profiling.',
  },
  {
    name: 'ol_device',
    returns: 'str',
    params: [param('engine', 'engine')],
    doc: 'What the engine runs on, for people: a GPU name, or a CPU path with its threads.',
  },
  {
    name: 'ol_error',
    returns: 'str',
    params: [param('engine', 'engine')],
    doc: 'Text of the last error, `stage: text` where a stage failed. A null engine: of the last ol_create on this thread.',
  },
  {
    name: 'ol_close',
    returns: 'void',
    params: [param('engine', 'engine')],
    doc: 'Stops the job, joins the threads, frees everything. Null is allowed.',
  },
];
