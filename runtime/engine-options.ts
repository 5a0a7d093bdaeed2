// What an engine and its jobs are told: the types, read once and checked; and how a reply ended.
import {
  type EngineOptions,
  finishCode,
  type Progress,
  type Sampling,
  type TensorSource,
} from './bindings.ts';
import {
  check,
  checkFunction,
  checkInteger,
  checkObject,
  checkSampling,
  checkSignal,
  checkSource,
  readArgument,
  type TokenIds,
  tokenArray,
} from './engine-arguments.ts';

export type Isa = 'auto' | 'generic' | 'avx2' | 'avx512' | 'avx512bf16';

/** Fixed for the life of an engine. */
export interface EngineSettings {
  /** Positions the KV cache holds. */
  readonly context: number;
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
  /** @default greedy */
  readonly sampling?: Readonly<Sampling> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Why a reply ended: a stop token, maxTokens, the signal, or no position left. */
type FinishReason = 'stop' | 'length' | 'abort' | 'context';

export interface GenerateResult {
  readonly finish: FinishReason;
  readonly timings: {
    /** From the start to the first token [ms]. */
    readonly prefillMs: number;
    /** From the first token to the last [ms]. */
    readonly decodeMs: number;
  };
}

export interface LoadOptions {
  /** Packed bytes so far, and in all. An error it throws ends the load. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Settings as the library takes them. @throws OnelaunchError of kind usage, as all that follow */
export function readSettings(settings: EngineSettings): EngineOptions {
  return readArgument('settings', () => {
    checkObject('settings', settings);
    const { context, threads = 0, device = 0, isa = 'auto' } = settings;
    checkInteger('context', context, 1);
    checkInteger('threads', threads, 0);
    checkInteger('device', device, 0);
    const known = typeof isa === 'string' && Object.hasOwn(isaCodes, isa);
    check(known, `isa is not one of ${Object.keys(isaCodes).join(', ')}`);
    return { device, threads, context, isa: isaCodes[isa]! };
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
  readonly signal: AbortSignal | undefined;
}

/** The options of a reply, with what was left out. */
export function readGenerateOptions(options: GenerateOptions, vocab: number): ReadOptions {
  return readArgument('options', () => {
    const { signal } = readOptions(options);
    const { maxTokens, stopIds = [], sampling = greedy(vocab) } = options;
    checkInteger('maxTokens', maxTokens, 1);
    const stops = tokenArray('stopIds', stopIds, vocab);
    return { maxTokens, stops, sampling: checkSampling(sampling, vocab), signal };
  });
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
  if (progress === null) return { finish: 'abort', timings: { prefillMs: 0, decodeMs: 0 } };
  const reasons: Readonly<Record<number, FinishReason>> = {
    [finishCode.stop]: 'stop',
    [finishCode.length]: 'length',
    [finishCode.context]: 'context',
  };
  return {
    finish: reasons[progress.finish] ?? 'abort',
    timings: { prefillMs: progress.prefill_ms, decodeMs: progress.decode_ms },
  };
}

/** The most likely token, always. */
const greedy = (vocab: number): Sampling => ({
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  presence_penalty: 0,
  seed: 0,
  vocab,
});
