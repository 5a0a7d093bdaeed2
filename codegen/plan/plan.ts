// The plan DSL: which ops share a stage, and how a stage deals its work. It cannot name a thread, a buffer or a barrier.
import type { OpName } from '../model/graph.ts';

/**
 * What one unit of a stage's work is.
 * `rows`: output rows, a contiguous range a block. `kv_heads`, `q_heads`: a head a block. `tokens`: a token of the pass a block. `once`: block 0.
 */
export type Over = 'rows' | 'q_heads' | 'kv_heads' | 'tokens' | 'once';

/** Where in the user's file something was written. */
export interface Site {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface StageOptions {
  readonly over: Over;
  /**
   * Ops whose result every block makes for itself instead of reading another block's.
   *     stage('a', ['attn_norm'], { over: 'tokens' }), stage('b', ['qkv_proj'], { over: 'rows' })
   *         one block normalises; grid barrier; all blocks project
   *     stage('b', ['attn_norm', 'qkv_proj'], { over: 'rows', recompute: ['attn_norm'] })
   *         every block normalises, then projects; no barrier between
   */
  readonly recompute?: readonly OpName[];
  /**
   * Cuts the positions of the KV cache into parts, so that more blocks than kv heads work on attention.
   *     for head: attend(head, 0..n)          without
   *     for head: for part: attend(head, n part/parts .. n (part+1)/parts)   with; `attn_merge` combines the parts
   */
  readonly split?: 'positions';
}

export interface Stage extends Required<Omit<StageOptions, 'split'>> {
  readonly name: string;
  readonly ops: readonly OpName[];
  readonly split: 'positions' | 'none';
  readonly at: Site;
}

/**
 * Weights are read by the warp that needs them, straight from memory.
 * `prefetch`: before a grid barrier each block asks for its rows of the stage so many stages ahead, into L2; 0: never.
 *     stage 1; barrier; stage 2; barrier; stage 3                                        0
 *     stage 1; prefetch 3; barrier; stage 2; prefetch 4; barrier; stage 3                2
 */
interface DirectWeights {
  readonly kind: 'direct';
  readonly prefetch: number;
}

/**
 * Each block's weights, of all stages in order, are one run of memory that a producer copies into a ring in shared memory; the copies go
 * on while stages wait for each other.
 *     load weights of stage 1; stage 1; wait; load weights of stage 2; stage 2                direct
 *     producer: weights of stage 1, 2, 3, ...        consumers: stage 1; wait; stage 2; ...   stream
 */
export interface StreamWeights {
  readonly kind: 'stream';
  /** Slots of the ring: fewer where they do not fit. */
  readonly stages: number;
  /** Slots whose copies are under way at once; one more while a quarter of the ring is free. Without it, what suits the model's size. */
  readonly inFlight?: number | undefined;
  /** The same where no stage waits: in the LM head. */
  readonly inFlightHead: number;
  /** Bytes of a slot. */
  readonly tile: number;
}

export interface PlanOptions {
  /**
   * How stages of different blocks are ordered.
   *     all blocks store; all blocks meet; all blocks load       barrier
   *     each reader polls the words it needs until they are there    exchange
   */
  readonly sync: 'barrier' | 'exchange';
  readonly weights: DirectWeights | StreamWeights;
  /**
   * How a word of an exchange tells that it is there.
   *     empty the word two turns ahead; store data that is never "empty"; poll until it is not empty     sentinel
   *     store data and turn together; poll until the turn is right                                       epoch
   * An epoch doubles the bytes that are polled, and nothing has to be emptied.
   */
  readonly words: 'sentinel' | 'epoch';
  /** Most tokens in one pass: a number, or `many` for as many as the target's shared memory holds, up to 8 on a GPU (16 in a stream) and 64 on a CPU. */
  readonly tokens: number | 'many';
  /** First position from which attention is split over blocks; before it one block a head is faster. Only in a stream. */
  readonly splitFrom: number;
}

export interface FusionPlan {
  readonly name: string;
  readonly stages: readonly Stage[];
  readonly options: PlanOptions;
  readonly at: Site;
}

/** Weights read straight from memory. */
export const direct = (options: { readonly prefetch?: number } = {}): DirectWeights => ({
  kind: 'direct',
  prefetch: options.prefetch ?? 0,
});

/** Weights streamed through shared memory. */
export const stream = (options: Partial<Omit<StreamWeights, 'kind'>> = {}): StreamWeights => ({
  kind: 'stream',
  stages: 12,
  inFlight: undefined,
  inFlightHead: 8,
  tile: 16384,
  ...options,
});

/** One stage: its ops in order, and how its work is dealt. Records the line it is called from. */
export function stage(name: string, ops: readonly OpName[], options: StageOptions): Stage {
  return {
    name,
    ops,
    over: options.over,
    recompute: options.recompute ?? [],
    split: options.split ?? 'none',
    at: callSite(),
  };
}

/** A fusion plan: stages in execution order. Stages of `layer` ops are run once a layer. */
export function plan(name: string, stages: readonly Stage[], options: Partial<PlanOptions> = {}): FusionPlan {
  return {
    name,
    stages,
    options: {
      sync: 'barrier',
      weights: direct(),
      words: 'sentinel',
      tokens: 'many',
      splitFrom: 192,
      ...options,
    },
    at: callSite(),
  };
}

/** The source position of the caller of the function that calls this. Works under tsx and vitest, which install source maps. */
function callSite(): Site {
  const frame = (new Error().stack ?? '').split('\n')[3] ?? '';
  const found = /\(?((?:file:\/\/)?\/[^()]+):(\d+):(\d+)\)?$/.exec(frame.trim());
  return {
    file: (found?.[1] ?? '').replace('file://', ''),
    line: Number(found?.[2] ?? 0),
    column: Number(found?.[3] ?? 0),
  };
}
