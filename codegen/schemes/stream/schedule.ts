// What a schedule with a stream adds: stages of prologue, body and epilogue, the ring, and how tiles are dealt.
import type { OpName, TensorName } from '../../model/graph.ts';
import type { PollCycles, SplitStep, StreamScheme } from '../../plan/plan.ts';
import type { CommonSchedule, ScheduledStage } from '../../schedule/schedule.ts';
import type { ExchangeSync } from '../../schedule/syncs.ts';

/** What a stage does before its body, whose input it makes. */
export type Prologue =
  /** Brings rows of a tensor into the block: words that others publish, in layer 0 rows of the embedding where that is what x still is. */
  | { readonly kind: 'gather'; readonly tensor: TensorName }
  /** Norm of what is gathered: its weights go in at once, its factor when the sum over all columns is known. */
  | { readonly kind: 'norm'; readonly op: OpName }
  /** Merges the splits of the positions while gathering them. */
  | { readonly kind: 'merge_splits'; readonly op: OpName }
  /** Head norm and rotation of queries and keys. */
  | { readonly kind: 'head_norm' | 'rotate'; readonly op: OpName };

export type Body =
  | { readonly kind: 'embed' | 'norm' | 'attend' | 'merge_splits' | 'sample'; readonly op: OpName }
  | { readonly kind: 'product'; readonly op: OpName }
  /** Rows that a product of an earlier stage left in this block. */
  | { readonly kind: 'kept'; readonly op: OpName };

/** What a stage does with each row that its body makes; a value that other blocks read is published behind the step that makes it. */
export type Epilogue =
  | { readonly kind: 'bias'; readonly op: OpName }
  /** Weights of the head norm; squares are handed over, and readers apply the factor. */
  | { readonly kind: 'head_norm' | 'rotate'; readonly op: OpName }
  | { readonly kind: 'pointwise'; readonly op: OpName }
  /** For a later stage of the same block. */
  | { readonly kind: 'keep'; readonly op: OpName }
  | { readonly kind: 'logits'; readonly op: OpName };

export interface StreamStage extends ScheduledStage {
  readonly prologue: readonly Prologue[];
  readonly body: Body;
  readonly epilogue: readonly Epilogue[];
}

/** The tiles of a product. Tiles of 8 rows are dealt to blocks, a tile's columns to the warps of a block. */
export interface ProductShape {
  readonly op: OpName;
  readonly rows: number;
  readonly columns: number;
  readonly tiles: number;
  /** Tiles of the busiest block. */
  readonly mostTiles: number;
  /** Of a tile; and those of one warp, at most. */
  readonly cells: number;
  readonly warpCells: number;
  readonly tileBytes: number;
  /** Blocks without a tile do not wait for its input, but go on to the next stage. */
  readonly passedBy: boolean;
}

/** Those of these products that blocks without a tile pass by. */
export const passedByIn = (products: readonly ProductShape[]): ReadonlySet<OpName> =>
  new Set(products.flatMap(({ op, passedBy }) => (passedBy ? [op] : [])));

/** One product as the stream has it. */
export interface StreamProduct extends ProductShape {
  readonly stage: string;
  /** First byte in a layer of the stream; of the head, which lies behind all layers, in the stream. */
  readonly at: number;
}

/** The kernel of passes of up to so many tokens. */
export interface KernelSize {
  readonly tokens: number;
  /** Slots of the ring. */
  readonly slots: number;
  /** Tiles that a block sums at once. */
  readonly sumTiles: number;
  /** Shared memory beside the ring [bytes]. */
  readonly workBytes: number;
}

/** What the plan asked for and what fits. */
export interface Ring extends Pick<StreamScheme, 'handoff' | 'headCopiesInFlight'> {
  readonly copy: 'bulk' | 'cp.async';
  readonly slotBytes: number;
  readonly copiesInFlight: number;
}

export interface StreamSchedule extends CommonSchedule {
  readonly scheme: 'stream';
  readonly stages: readonly StreamStage[];
  readonly products: readonly StreamProduct[];
  readonly ring: Ring;
  /** Cycles into a stage before which its input is not polled, by an op of the stage. */
  readonly pollCycles: PollCycles;
  /** Blocks that share a head, by first position, from 0 on. */
  readonly splitSteps: readonly SplitStep[];
  /** Blocks that share a head while it is not split, in a pass of one token: each has all positions, and of their values a slice of the elements. */
  readonly slices: number;
  /** Products whose rows stay in the block until a later stage. */
  readonly kept: readonly OpName[];
  /** Elements of a head in the cache: padded for the matrix instructions. */
  readonly headPad: number;
  /** From that of one token to that of the largest pass. */
  readonly kernels: readonly KernelSize[];
  /** Tokens of a pass that checks drafts, each with the bits of a pass of its own; 0: there is none. */
  readonly checkTokens: number;
  /** Bytes of all weights in the stream, and of those of a layer. */
  readonly streamBytes: number;
  readonly streamLayerBytes: number;
}

/** Splits that work on a head at a position. */
export const splitsAt = (steps: readonly SplitStep[], position: number): number =>
  steps.findLast(({ from }) => from <= position)!.splits;

/**
 * Of an exchange around attention: true where it is needed while several blocks share a head, false while one block has all positions, null
 * for all others.
 */
export function isSplitSync({ stages }: Pick<StreamSchedule, 'stages'>, sync: ExchangeSync): boolean | null {
  if (sync.words === 'partial') return true;
  if (sync.words !== 'att') return null;
  return stages.find((stage) => stage.name === sync.after.stage)!.body.kind === 'merge_splits';
}
