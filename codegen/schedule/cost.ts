// What a schedule should cost on its target: what all schemes say of it. A prediction, to be held against a measurement.
import type { TensorName } from '../model/graph.ts';
import { meanCached } from '../model/kinds.ts';
import { bytesOf, type CommonSchedule, markedOps, type ScheduledStage } from './schedule.ts';
import { bandwidthOf, type Target } from './target.ts';
import { costTermNames, partMicros, type TimePart, tokenMicros, type Work, workMicros } from './terms.ts';

/** A wait of all blocks for each other behind a stage. */
export interface StageSync {
  readonly scope: 'grid' | 'exchange';
  /** At the position that is asked for. */
  readonly isNeeded: boolean;
  /** What an exchange carries. */
  readonly tensors: readonly TensorName[];
  /** Positions at which it is needed, in words; empty: at all. */
  readonly when: string;
  readonly reason: string;
}

/** What one run of a stage should cost. */
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
  /** Multiplications and additions that the results of one run need; null where nobody counts them. */
  readonly flop: number | null;
  /** Time in which the busiest block reads both [us]; null without a known bandwidth. */
  readonly micros: number | null;
  /** What one run waits for of other blocks, what goes on beside its reads, and what else it does. */
  readonly waits: readonly Work[];
  readonly chains: TimePart['chains'];
  readonly work: readonly Work[];
  /** On this target [us]: its waits; and all else, as far as it is not hidden behind the reads. */
  readonly waitMicros: number;
  readonly workMicros: number;
  readonly syncs: readonly StageSync[];
  /** What a reader should know of the inside of the stage: block syncs, prefetches. */
  readonly notes: readonly { readonly where: string; readonly text: string }[];
}

/** What a schedule should cost on its target: times [us], sizes [bytes]. */
export interface Cost {
  /** Position of the token that is made. */
  readonly position: number;
  /** What bytes, times and syncs are of: a token, or a launch of as many as there may be. */
  readonly per: 'token' | 'launch';
  readonly stages: readonly StageCost[];
  /** Grid barriers, or exchanges, of a token or a launch. */
  readonly syncsPerToken: number;
  readonly syncName: 'grid barriers' | 'exchanges';
  readonly bytes: { readonly weights: number; readonly kvPerPosition: number };
  /** Reading all bytes, all waits and all work, each one after the other [us]. */
  readonly readMicros: number | null;
  readonly waitMicros: number;
  readonly workMicros: number;
  /** What the time of a token is made of. */
  readonly parts: readonly TimePart[];
  /** One token, or one launch [us]; null without a known bandwidth. */
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
  /** By how much reading the weights takes longer than their bytes at the target's bandwidth would. */
  readonly slowdown: (stage: ScheduledStage) => number;
  readonly waits: (stage: ScheduledStage) => readonly Work[];
  readonly work: (stage: ScheduledStage) => readonly Work[];
  /** What goes on beside the reads of a stage. */
  readonly chains?: (stage: ScheduledStage) => TimePart['chains'];
  /** What the reads of a layer stand for, where they go on beside all of its stages. */
  readonly stands?: TimePart['stands'];
  readonly syncs: (stage: ScheduledStage) => readonly StageSync[];
  readonly notes: (stage: ScheduledStage) => StageCost['notes'];
  readonly flop?: (stage: ScheduledStage) => StageCost['flop'];
  /** Reads go on beside the waits and work of all stages of the same part; or stages come one after the other. */
  readonly beside: boolean;
  readonly lines: readonly string[];
  /** What the terms of the target were not measured with. */
  readonly unmeasured?: readonly string[];
  /** What goes on in front of all stages and behind them, beside nothing. */
  readonly around?: readonly Work[];
  /** Tokens that take that long together; else one. */
  readonly tokens?: number;
}

/** Runs of a stage in a token. */
export const runsOf = ({ dims }: Pick<CommonSchedule, 'dims'>, { part }: Pick<StageCost, 'part'>): number =>
  part === 'layer' ? dims.layers : 1;

/** How often blocks wait in a stage or behind it, at the position that is asked for: for all exchanges of a stage together. */
function waitsOf({ syncs }: Pick<StageCost, 'syncs'>): number {
  const needed = syncs.filter(({ isNeeded }) => isNeeded);
  const barriers = needed.filter(({ scope }) => scope === 'grid').length;
  return barriers + (needed.length > barriers ? 1 : 0);
}

/** The same of all stages of a layer. */
export const waitsPerLayer = ({ stages }: Pick<Cost, 'stages'>): number =>
  stages.reduce((sum, stage) => sum + (stage.part === 'layer' ? waitsOf(stage) : 0), 0);

/** All runs of a stage in a token or a launch [us]: what it reads, then what it waits for and does; null without a known bandwidth. */
export const stageMicros = (schedule: Pick<CommonSchedule, 'dims'>, stage: StageCost): number | null =>
  stage.micros === null
    ? null
    : runsOf(schedule, stage) * (stage.micros + stage.waitMicros + stage.workMicros);

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
  const { terms = {} } = target;
  const bytes = bytesOf(schedule);
  const bandwidth = bandwidthOf(target, bytes.weights);
  const splits = [...new Set(input.splits)].join(' to ');
  const stages = schedule.stages.map((stage): StageCost => {
    const weightBytes = input.weightBytes(stage);
    const attends = stage.ops.includes('attend');
    const cacheBytes = attends ? (meanCached(dims, input.position) * bytes.kvPerPosition) / dims.layers : 0;
    const [waits, work, chains] = [input.waits(stage), input.work(stage), input.chains?.(stage) ?? []];
    const read = weightBytes * input.slowdown(stage) + cacheBytes;
    const micros = bandwidth === null ? null : read / (bandwidth * 1e3);
    const done =
      micros === null || input.beside
        ? workMicros(work, terms)
        : partMicros({ bytes: read, reads: 'bursts', chains, work }, terms, bandwidth!) - micros;
    return {
      name: stage.name,
      part: stage.part,
      over: stage.over + (stage.split ? ` x ${splits}` : ''),
      ops: markedOps(stage),
      units: stage.units,
      weightBytes,
      cacheBytes,
      flop: input.flop?.(stage) ?? null,
      ...{ micros, waits, chains, work, waitMicros: workMicros(waits, terms), workMicros: done },
      syncs: input.syncs(stage),
      notes: input.notes(stage),
    };
  });
  const sum = (value: (stage: StageCost) => number) =>
    stages.reduce((total, stage) => total + runsOf(schedule, stage) * value(stage), 0);
  const around = (input.around ?? []).map(
    (one): TimePart => ({ runs: 1, bytes: 0, reads: 'steady', chains: [], work: [one] }),
  );
  const parts = [...around, ...partsOf(schedule, stages, input)];
  const micros = bandwidth === null ? null : tokenMicros(parts, terms, bandwidth);
  const assumed = unmeasuredOf(target, parts);
  return {
    position: input.position,
    per: input.tokens === undefined ? 'token' : 'launch',
    stages,
    syncsPerToken: sum(waitsOf),
    syncName: input.syncName,
    bytes,
    readMicros: bandwidth === null ? null : sum((stage) => stage.micros!),
    waitMicros: sum((stage) => stage.waitMicros),
    workMicros: sum((stage) => stage.workMicros),
    parts,
    micros,
    tokensPerSecond: micros === null ? null : ((input.tokens ?? 1) * 1e6) / micros,
    lines: input.lines,
    basis: basisOf({ ...target, bandwidth }, input, micros, assumed),
    unmeasured: [...assumed, ...(input.unmeasured ?? [])],
  };
}

/** A ring keeps the memory busy while others compute. */
const readsOf = ({ beside }: CostInput): TimePart['reads'] => (beside ? 'steady' : 'bursts');

/** Stages one after the other; or all of a layer beside each other, then the others. */
function partsOf(schedule: CommonSchedule, stages: readonly StageCost[], input: CostInput): TimePart[] {
  const parts = stages.map(
    (stage, i): TimePart => ({
      runs: runsOf(schedule, stage),
      bytes: stage.weightBytes * input.slowdown(schedule.stages[i]!) + stage.cacheBytes,
      reads: readsOf(input),
      chains: stage.chains,
      work: [...stage.waits, ...stage.work],
    }),
  );
  if (!input.beside) return parts;
  const together = (all: readonly TimePart[], runs: number): TimePart => ({
    runs,
    bytes: all.reduce((bytes, part) => bytes + part.bytes, 0),
    reads: readsOf(input),
    chains: [all.flatMap(({ work }) => work)],
    work: [],
  });
  const isLayer = (i: number) => stages[i]!.part === 'layer';
  return [
    {
      ...together(
        parts.filter((_, i) => isLayer(i)),
        schedule.dims.layers,
      ),
      stands: input.stands,
    },
    together(
      parts.filter((_, i) => !isLayer(i)),
      1,
    ),
  ];
}

/** The bandwidth, and terms, that are assumed. */
function unmeasuredOf({ bandwidthFrom, terms = {} }: Target, parts: readonly TimePart[]): string[] {
  const used = new Set(
    parts.flatMap(({ chains, work }) =>
      [...chains.flat(), ...work].filter(({ amount }) => amount > 0).map((one) => one.term),
    ),
  );
  return [
    ...(bandwidthFrom === 'measured' ? [] : ['bandwidth']),
    ...costTermNames.filter((term) => used.has(term) && terms[term] === undefined),
  ];
}

function basisOf(
  target: Target,
  { position, tokens, beside }: Pick<CostInput, 'position' | 'tokens' | 'beside'>,
  micros: number | null,
  unmeasured: readonly string[],
): string {
  if (micros === null) return 'no predicted speed, since the bandwidth of this target is not known';
  const speed = `${(((tokens ?? 1) * 1e6) / micros).toFixed(0)} tok/s at position ${position}`;
  const time = `${micros.toFixed(1)} us a ${tokens === undefined ? 'token' : 'launch'}`;
  const sum = beside ? ', since reads go on beside waits and work' : '';
  const figures = `predicted ${speed}, ${time}${sum}, at ${target.bandwidth} GB/s (${target.bandwidthFrom})`;
  const assumed = unmeasured.filter((name) => name !== 'bandwidth');
  if (assumed.length === 0) return `${figures} and the terms of this target`;
  return `${figures}; assumed, since nobody has measured them here (gen calibrate does): ${assumed.join(', ')}`;
}
