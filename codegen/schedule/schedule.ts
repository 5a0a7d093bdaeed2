// The schedule: everything that a template prints. What its scheme adds is in that scheme's folder.
import type { ModelDims } from '../model/dims.ts';
import type { Op, OpName, TensorName } from '../model/graph.ts';
import { pointwiseOf } from '../model/ops.ts';
import { type Packing, type Slot, weightBytesOf } from '../model/packing.ts';
import type { Over } from '../plan/plan.ts';
import type { Hazard } from './hazards.ts';
import type { Sync } from './syncs.ts';
import type { Target } from './target.ts';

/** What every stage has. */
export interface ScheduledStage {
  readonly name: string;
  readonly part: Op['part'];
  readonly over: Over;
  readonly split: boolean;
  /** Units dealt to blocks: rows, heads times splits, or 0 for the tokens of the pass. */
  readonly units: number;
  /** Weight bytes that one decode pass reads here, all layers of the stage counted once. */
  readonly weightBytes: number;
  readonly ops: readonly OpName[];
  /** Those that every block makes for itself. */
  readonly recompute: readonly OpName[];
}

/** What every schedule has. */
export interface CommonSchedule {
  readonly scheme: string;
  readonly dims: ModelDims;
  readonly target: Target;
  /** The ops of this model, as in the graph. */
  readonly ops: readonly Op[];
  readonly plan: { readonly name: string };
  /** What the generated code calls the pointwise ops that the plan brings, behind `ops::`; known once they are printed. */
  readonly functions?: Readonly<Partial<Record<OpName, string>>>;
  readonly passTokens: number;
  /** Most splits of the positions. */
  readonly splits: number;
  readonly warps: number;
  readonly blocks: number;
  readonly stages: readonly ScheduledStage[];
  readonly packing: Packing;
  /** Bytes of a key and its value of a head and position as they lie in the KV cache, with what pads them. */
  readonly cachedBytes: number;
  readonly slots: readonly Slot[];
  readonly hazards: readonly Hazard[];
  readonly syncs: readonly Sync[];
  /** Roundings of activations to the weights' type, besides those of K and V: in each layer, and once. */
  readonly roundings: Roundings;
  /** More of them in passes of several tokens, on a CPU that multiplies pairs of bf16. */
  readonly pairRoundings: Roundings;
}

/** Bytes that one decode pass reads: the weights, and the KV cache for each position before it. */
export const bytesOf = ({ dims, cachedBytes }: Pick<CommonSchedule, 'dims' | 'cachedBytes'>) => ({
  weights: weightBytesOf(dims),
  kvPerPosition: dims.layers * dims.kvHeads * cachedBytes,
});

export interface Roundings {
  readonly perLayer: number;
  readonly once: number;
  /** Of inputs of rows in blocks, where they are not 16. */
  readonly inputBits?: 8;
}

/** More of them in a layer of a GPU whose cache has codes: a key and a value before they become codes, and what the codes stand for. */
export const codedRoundings = ({ cache }: Pick<ModelDims, 'cache'>): number => (cache === undefined ? 0 : 4);

/** A stage's ops in order, `*` behind those that every block makes for itself. */
export const markedOps = ({ ops, recompute }: Pick<ScheduledStage, 'ops' | 'recompute'>): string[] =>
  ops.map((op) => (recompute.includes(op) ? `${op}*` : op));

/** The arguments of a pointwise op as C. @param textOf of a tensor's element */
export function argumentsOf(
  { dims }: Pick<CommonSchedule, 'dims'>,
  op: OpName,
  textOf: (tensor: TensorName) => string,
): string {
  const { args } = pointwiseOf(op);
  const isBranch = (tensor: TensorName) => dims.factors !== undefined && args.includes('x') && tensor !== 'x';
  return args.map((tensor) => `${isBranch(tensor) ? 'kBranchFactor * ' : ''}${textOf(tensor)}`).join(', ');
}

/** What the generated code calls a pointwise op, behind `ops::`. */
export const functionOf = ({ functions }: Pick<CommonSchedule, 'functions'>, op: OpName): string =>
  functions?.[op] ?? pointwiseOf(op).function;
