// What an engine and its jobs are told: the types, read once and checked; and how a reply ended.

import {
  check,
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkSampling,
  checkSignal,
  checkSource,
  readArgument,
  type TokenIds,
  tokenArray,
} from './arguments.ts';
import {
  abiStatus,
  type EngineOptions,
  finishCode,
  type GenerateArgs,
  type Progress,
  type Sampling,
  type TensorSource,
} from './bindings.ts';
import { mostBiases, mostSequences, mostThreads, mostTopLogprobs } from './limits.ts';
import type { TokenMask } from './token-masks.ts';

export type Isa = 'auto' | 'generic' | 'avx2' | 'avx512' | 'avx512bf16';

/** Fixed for the life of an engine. */
export interface EngineSettings {
  /** Positions of each sequence of the KV cache. */
  readonly context: number;
  /** Sequences of the KV cache, up to 16: each takes memory for `context` positions. @default 1 */
  readonly sequences?: number;
  /** CPU threads; 0: as many as physical cores. Ignored on a GPU. */
  readonly threads?: number;
  /** GPU ordinal. Ignored on a CPU. */
  readonly device?: number;
  /** CPU instruction set; auto: the best one found. */
  readonly isa?: Isa;
}

export interface GenerateOptions {
  readonly maxTokens: number;
  /** Any of these ends the reply; it is yielded as its last token. */
  readonly stopIds?: TokenIds | undefined;
  /** Tokens that may come next, for one pass to check; they change how long a reply takes, and nothing of it. @default 'off' */
  readonly speculate?: Speculate | undefined;
  /** @default greedy */
  readonly sampling?: Readonly<Sampling> | undefined;
  /** Added to the logits of these tokens before penalties and temperature. @default none */
  readonly bias?: LogitBias | undefined;
  /** Which tokens may be chosen, asked before each. Drafts of such a reply are the tokens that this foresees. @default any */
  readonly mask?: TokenMask | undefined;
  /** Log probabilities of the tokens, and of `top` others for each of them. @default none */
  readonly logprobs?: LogprobsOptions | undefined;
  /** Tokens of the prompt that are in the KV cache, and all of them: after each pass that took in some. An error it throws ends the reply. */
  readonly onPrompt?: OnPrompt | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Hears how far a prompt is. */
export type OnPrompt = (doneTokens: number, totalTokens: number) => void;

/** By token id, for up to 1024 of them. */
export type LogitBias = Readonly<Record<number, number>>;

export interface LogprobsOptions {
  /** So many of the most likely tokens, 0 to 20. */
  readonly top: number;
  /** Gets them in the order of the tokens, before these are yielded. */
  readonly onLogprobs: (logprobs: readonly TokenLogprobs[]) => void;
}

/** Natural log of the probability that the model gave a token: of the softmax of its logits, before bias, penalties and temperature. */
export interface Logprob {
  readonly token: number;
  readonly logprob: number;
}

export interface TokenLogprobs extends Logprob {
  /** The most likely tokens, from the first on. */
  readonly top: readonly Logprob[];
}

/** Why a reply ended: a stop token, maxTokens, the signal, or no position left. */
type FinishReason = 'stop' | 'length' | 'abort' | 'context';

/** Drafts: the tokens that followed the same last tokens before, prompt included; else those that a draft model chooses, where there is one.
 *  auto: as many as pay, none where they do not or where the engine cannot check them.
 *  Numbers: `tokens` of them before each pass, or as many as a pass holds, found by the last `ngram` tokens (3) or fewer. */
export type Speculate = 'auto' | 'off' | { readonly tokens: number; readonly ngram?: number | undefined };

export interface GenerateResult {
  readonly finish: FinishReason;
  /** Tokens drafted, and those of them that were right. */
  readonly drafted: number;
  readonly accepted: number;
  /** Whether the engine that drafts has failed, in this reply or before it. */
  readonly draftsFailed?: boolean;
  readonly timings: {
    /** From the start to the first token [ms]. */
    readonly prefillMs: number;
    /** From the first token to the last [ms]. */
    readonly decodeMs: number;
  };
}

/** Longer runs are no better a sign. */
export const mostNgram = 16;

export interface LoadOptions {
  /** Packed bytes so far, and in all. An error it throws ends the load. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Settings as the library takes them. @throws OnelaunchError of kind usage, as all that follow */
export function readSettings(settings: EngineSettings): EngineOptions {
  return readArgument('settings', () => {
    checkObject('settings', settings);
    const { context, sequences = 1, threads = 0, device = 0, isa = 'auto' } = settings;
    checkInteger('context', context, 1);
    checkInteger('sequences', sequences, 1, mostSequences);
    checkInteger('threads', threads, 0, mostThreads);
    checkInteger('device', device, 0);
    const known = typeof isa === 'string' && Object.hasOwn(isaCodes, isa);
    check(known, `isa is not one of ${Object.keys(isaCodes).join(', ')}`);
    return { device, threads, context, sequences, isa: isaCodes[isa]! };
  });
}

/** Sources as the library takes them. */
export function readSources(sources: readonly Readonly<TensorSource>[]): TensorSource[] {
  return readArgument('sources', () => {
    check(Array.isArray(sources), 'sources is not an array');
    const copies: TensorSource[] = [];
    for (let i = 0; i < sources.length; i++) copies.push(checkSource(sources[i]!, `sources[${i}]`));
    return copies;
  });
}

/** What a reply is made with. */
interface ReadOptions {
  readonly maxTokens: number;
  readonly stops: Int32Array;
  readonly sampling: Sampling;
  readonly drafts: Pick<GenerateArgs, 'draft_tokens' | 'draft_ngram'>;
  readonly onPrompt: OnPrompt | undefined;
  readonly bias: Pick<GenerateArgs, 'bias_ids' | 'biases' | 'bias_count'>;
  readonly logprobs: LogprobsOptions | undefined;
  readonly mask: TokenMask | undefined;
  readonly signal: AbortSignal | undefined;
}

/** The options of a reply, with what was left out. */
export function readGenerateOptions(options: GenerateOptions, vocab: number): ReadOptions {
  return readArgument('options', () => {
    const { signal } = readOptions(options);
    const { maxTokens, stopIds = [], sampling = greedy(vocab), speculate = 'off' } = options;
    const { bias = {}, onPrompt, mask } = options;
    checkInteger('maxTokens', maxTokens, 1);
    const stops = tokenArray('stopIds', stopIds, vocab);
    const drafts = readSpeculate(speculate);
    checkFunction('options.onPrompt', onPrompt);
    const logprobs = readLogprobs(options.logprobs);
    const checked = checkSampling(sampling, vocab);
    return {
      ...{ maxTokens, stops, sampling: checked, drafts, bias: readBias(bias, vocab), logprobs },
      ...{ mask: readMask(mask), onPrompt, signal },
    };
  });
}

function readBias(bias: LogitBias, vocab: number): ReadOptions['bias'] {
  checkObject('bias', bias);
  check(!(Symbol.iterator in bias), 'bias is a list or a Map, not an object with a number for each token');
  const entries = Object.entries(bias);
  check(entries.length <= mostBiases, `bias has ${entries.length} tokens; there may be ${mostBiases}`);
  for (const [id, value] of entries) {
    checkInteger('a token of bias', /^\d+$/.test(id) ? Number(id) : id, 0, vocab - 1);
    checkNumber(`bias[${id}]`, value);
  }
  return {
    bias_ids: Int32Array.from(entries, ([id]) => Number(id)),
    biases: Float32Array.from(entries, ([, value]) => value),
    bias_count: entries.length,
  };
}

function readMask(mask: TokenMask | undefined): TokenMask | undefined {
  if (mask === undefined) return undefined;
  checkObject('mask', mask);
  check(typeof mask.next === 'function', 'mask.next is not a function');
  return mask;
}

function readLogprobs(logprobs: LogprobsOptions | undefined): LogprobsOptions | undefined {
  if (logprobs === undefined) return undefined;
  checkObject('logprobs', logprobs);
  const { top, onLogprobs } = logprobs;
  checkInteger('logprobs.top', top, 0, mostTopLogprobs);
  check(typeof onLogprobs === 'function', 'logprobs.onLogprobs is not a function');
  return { top, onLogprobs };
}

const usualNgram = 3;

function readSpeculate(speculate: Speculate): ReadOptions['drafts'] {
  if (speculate === 'off') return { draft_tokens: 0, draft_ngram: usualNgram };
  if (speculate === 'auto') return { draft_tokens: -1, draft_ngram: usualNgram };
  const isNumbers = typeof speculate === 'object' && speculate !== null;
  check(isNumbers, "speculate is neither 'auto' nor 'off' nor { tokens, ngram }");
  const { tokens, ngram = usualNgram } = speculate;
  checkInteger('speculate.tokens', tokens, 1);
  checkInteger('speculate.ngram', ngram, 1, mostNgram);
  return { draft_tokens: tokens, draft_ngram: ngram };
}

/** What the options of all jobs have in common. */
export function readOptions(options: LoadOptions): LoadOptions {
  return readArgument('options', () => {
    checkObject('options', options);
    const { onProgress, signal } = options;
    checkFunction('options.onProgress', onProgress);
    checkSignal('options.signal', signal);
    return { signal, ...(onProgress && { onProgress }) };
  });
}

const isaCodes: Readonly<Record<string, number>> = { auto: 0, generic: 1, avx2: 2, avx512: 3, avx512bf16: 4 };

/** How a reply ended; null: it was aborted before it began. */
export function generateResult(progress: Progress | null): GenerateResult {
  if (progress === null)
    return { finish: 'abort', drafted: 0, accepted: 0, timings: { prefillMs: 0, decodeMs: 0 } };
  const reasons: Readonly<Record<number, FinishReason>> = {
    [finishCode.stop]: 'stop',
    [finishCode.length]: 'length',
    [finishCode.context]: 'context',
  };
  return {
    finish: reasons[progress.finish] ?? 'abort',
    drafted: progress.drafted,
    accepted: progress.accepted,
    ...(progress.draft_status !== abiStatus.ok && { draftsFailed: true }),
    timings: { prefillMs: progress.prefill_ms, decodeMs: progress.decode_ms },
  };
}

/** The most likely token, always. */
export const greedy = (vocab: number): Sampling => ({
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
  seed: 0,
  vocab,
});
