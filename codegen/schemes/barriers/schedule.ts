// What a schedule with barriers adds: stages cut into phases, tensors given a place.
import type { ModelDims } from '../../model/dims.ts';
import type { OpName, TensorName } from '../../model/graph.ts';
import type { CommonSchedule, ScheduledStage } from '../../schedule/schedule.ts';
import type { Meeting } from '../../schedule/syncs.ts';
import type { Tuning } from './tuning.ts';

/** Where a tensor lives. Strides are floats; `scratch` is the block's own. */
export type Placement =
  | { readonly space: 'global'; readonly buffer: string; readonly offset: number; readonly stride: number }
  | { readonly space: 'scratch'; readonly offset: number; readonly stride: number }
  | { readonly space: 'input' }
  | { readonly space: 'register' }
  | { readonly space: 'cache' };

/** An activation buffer in global memory: [passTokens][stride] floats. */
export interface Buffer {
  readonly name: string;
  readonly tensors: readonly TensorName[];
  readonly stride: number;
}

/** Part of the block's scratch, in floats. */
export interface Region {
  readonly lo: number;
  readonly hi: number;
}

/**
 * One step of a stage between block syncs.
 * gather, norm_input, merge_input: fill the block's copy of a matmul's input. rows: a matmul with its row-wise ops, or row-wise ops alone.
 * matmul_from: a matmul that reads global memory; a pass of several tokens gathers inside it.
 */
export type PhaseKind =
  | 'embed'
  | 'gather_input'
  | 'norm_input'
  | 'merge_input'
  | 'matmul'
  | 'matmul_from'
  | 'pointwise'
  | 'norm'
  | 'qk_norm'
  | 'rope'
  | 'kv_append'
  | 'attend'
  | 'attn_merge'
  | 'sample';

export interface Phase {
  readonly kind: PhaseKind;
  readonly ops: readonly OpName[];
  /** Made by every block for itself. */
  readonly recomputed: boolean;
  readonly scratchReads: readonly Region[];
  readonly scratchWrites: readonly Region[];
}

/** A stage of phases. */
export interface BarrierStage extends ScheduledStage {
  readonly phases: readonly Phase[];
}

export interface BarrierSchedule extends CommonSchedule {
  readonly scheme: 'barriers';
  readonly stages: readonly BarrierStage[];
  readonly syncs: readonly Meeting[];
  readonly tuning: Tuning;
  readonly tensors: Readonly<Partial<Record<TensorName, Placement>>>;
  readonly buffers: readonly Buffer[];
  /** Scratch of a block [floats], the library's own share included. */
  readonly scratchFloats: number;
}

/** Floats that `attend` and `sample` use beside what the schedule places; the libraries check them against their own. */
export interface LibraryScratch {
  readonly attend: (dims: ModelDims, group: number, tokens: number) => number;
  readonly sample: (dims: ModelDims) => number;
  /** Shared memory of the library's own [bytes]. */
  readonly staticBytes: number;
  /** Buffers that weights are copied into, behind the scratch [bytes]. */
  readonly ringBytes: number;
}

/** True for stages whose blocks may take several units one after the other. */
export const loops = (stage: Pick<ScheduledStage, 'over'>): boolean =>
  stage.over === 'q_heads' || stage.over === 'kv_heads' || stage.over === 'tokens';

const alignBytes = (bytes: number): number => Math.ceil(bytes / 256) * 256;

/** Of a buffer with rows of so many floats. */
export const bufferBytes = ({ passTokens }: Pick<BarrierSchedule, 'passTokens'>, stride: number): number =>
  alignBytes(4 * passTokens * stride);

/** Of all buffers of a pass, logits apart. */
export const activationBytes = (schedule: Pick<BarrierSchedule, 'passTokens' | 'buffers'>): number =>
  schedule.buffers.reduce((sum, buffer) => sum + bufferBytes(schedule, buffer.stride), 0);
