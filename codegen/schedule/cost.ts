// What a schedule should cost on its target: what all schemes say of it. A prediction, to be held against a measurement.
import type { TensorName } from '../model/graph.ts';
import { meanCached } from '../model/kinds.ts';
import { bytesOf } from '../model/packing.ts';
import { type CommonSchedule, markedOps, type ScheduledStage } from './schedule.ts';

/** A wait of all blocks for each other behind a stage. */
export interface StageSync {
  readonly scope: 'grid' | 'exchange';
  /** Cost [us]; 0 where it is not needed at the position that is asked for. */
  readonly micros: number;
  /** What an exchange carries. */
  readonly tensors: readonly TensorName[];
  /** Positions at which it is needed, in words; empty: at all. */
  readonly when: string;
  readonly reason: string;
}

export interface StageCost {
  readonly name: string;
  readonly part: ScheduledStage['part'];
  readonly over: string;
  /** Ops in order; `*` marks those that every block makes for itself. */
  readonly ops: readonly string[];
  readonly units: number;
  /** Bytes of weights that one run of the stage reads: in a stream with its padding. */
  readonly weightBytes: number;
  /** Bytes of cached positions that it reads, on average over the layers. */
  readonly cacheBytes: number;
  /** Time to read both [us]; null without a known bandwidth. */
  readonly micros: number | null;
  readonly syncs: readonly StageSync[];
  /** What a reader should know of the inside of the stage: block syncs, prefetches. */
  readonly notes: readonly { readonly where: string; readonly text: string }[];
}

export interface Cost {
  /** Position of the token that is made. */
  readonly position: number;
  readonly stages: readonly StageCost[];
  /** Grid barriers, or exchanges, of a token. */
  readonly syncsPerToken: number;
  readonly syncName: 'grid barriers' | 'exchanges';
  readonly bytes: { readonly weights: number; readonly kvPerPosition: number };
  /** Reading all bytes, and all waits one after the other [us]. */
  readonly readMicros: number | null;
  readonly syncMicros: number;
  /** One token [us]; null without a known bandwidth. */
  readonly micros: number | null;
  readonly tokensPerSecond: number | null;
  /** The scheme's own lines below the table, and what the prediction rests on. */
  readonly lines: readonly string[];
  readonly basis: string;
  /** What of the target nobody has measured, though the prediction rests on it: nothing is to be ranked by it then. */
  readonly unmeasured: readonly string[];
}

/** What a scheme knows of its costs. */
export interface CostInput {
  readonly position: number;
  readonly syncName: Cost['syncName'];
  /** Splits of a head's positions, fewest and most. */
  readonly splits: readonly [fewest: number, most: number];
  readonly weightBytes: (stage: ScheduledStage) => number;
  readonly syncs: (stage: ScheduledStage) => readonly StageSync[];
  readonly notes: (stage: ScheduledStage) => StageCost['notes'];
  /** A token from its reads and its waits [us]. */
  readonly together: (readMicros: number, syncMicros: number) => number;
  readonly lines: readonly string[];
  readonly basis: (readMicros: number, syncMicros: number) => string;
}

/** Runs of a stage in a token. */
export const runsOf = ({ dims }: Pick<CommonSchedule, 'dims'>, { part }: Pick<StageCost, 'part'>): number =>
  part === 'layer' ? dims.layers : 1;

/** The longest wait behind a stage: words of several exchanges are waited for side by side. */
export const waitMicros = ({ syncs }: Pick<StageCost, 'syncs'>): number =>
  Math.max(0, ...syncs.map((sync) => sync.micros));

/** Stages of a layer behind which blocks wait. */
export const waitsPerLayer = ({ stages }: Pick<Cost, 'stages'>): number =>
  stages.filter((stage) => stage.part === 'layer' && waitMicros(stage) > 0).length;

/** A wait in words. */
export function syncText({ scope, tensors, when, reason }: StageSync): string {
  switch (scope) {
    case 'grid':
      return `grid barrier: ${reason}`;
    case 'exchange':
      return `${when && `${when}: `}exchange of ${tensors.join(', ')}: ${reason}`;
    default:
      return scope satisfies never;
  }
}

export function costOf(schedule: CommonSchedule, input: CostInput): Cost {
  const { target, dims } = schedule;
  const bytes = bytesOf(dims);
  const splits = [...new Set(input.splits)].join(' to ');
  const stages = schedule.stages.map((stage): StageCost => {
    const weightBytes = input.weightBytes(stage);
    const attends = stage.ops.includes('attend');
    const cacheBytes = attends ? (meanCached(dims, input.position) * bytes.kvPerPosition) / dims.layers : 0;
    return {
      name: stage.name,
      part: stage.part,
      over: stage.over + (stage.split ? ` x ${splits}` : ''),
      ops: markedOps(stage),
      units: stage.units,
      weightBytes,
      cacheBytes,
      micros: target.bandwidth === null ? null : (weightBytes + cacheBytes) / (target.bandwidth * 1e3),
      syncs: input.syncs(stage),
      notes: input.notes(stage),
    };
  });
  const sum = (value: (stage: StageCost) => number) =>
    stages.reduce((total, stage) => total + runsOf(schedule, stage) * value(stage), 0);
  const readMicros = target.bandwidth === null ? null : sum((stage) => stage.micros!);
  const syncMicros = sum(waitMicros);
  const micros = readMicros === null ? null : input.together(readMicros, syncMicros);
  return {
    position: input.position,
    stages,
    syncsPerToken: sum((stage) => (waitMicros(stage) > 0 ? 1 : 0)),
    syncName: input.syncName,
    bytes,
    readMicros,
    syncMicros,
    micros,
    tokensPerSecond: micros === null ? null : 1e6 / micros,
    lines: input.lines,
    unmeasured: target.bandwidthFrom === 'measured' ? [] : ['bandwidth'],
    basis:
      readMicros === null
        ? 'no predicted speed, since the bandwidth of this target is not known'
        : `predicted ${(1e6 / micros!).toFixed(0)} tok/s at position ${input.position}, ${input.basis(readMicros, syncMicros)}`,
  };
}
