// What a schedule should cost on its target: bytes over bandwidth, and the syncs. A prediction, to be held against a measurement.
import type { TensorName } from '../model/graph.ts';
import { bytesOf } from '../model/packing.ts';
import { type StreamCost, streamCost } from '../schemes/stream/cost.ts';
import { markedOps, type Schedule, type ScheduledStage } from './schedule.ts';
import type { Target } from './target.ts';

export interface StageCost {
  readonly name: string;
  readonly part: ScheduledStage['part'];
  readonly over: string;
  /** Ops in order; `*` marks those that every block makes for itself. */
  readonly ops: readonly string[];
  readonly units: number;
  /** Bytes of weights that one run of the stage reads: in a stream with its padding. */
  readonly weightBytes: number;
  /** Time to read them [us]; null without a known bandwidth. */
  readonly micros: number | null;
  readonly syncMicros: number;
  readonly sync: 'grid' | 'exchange' | null;
  /** What an exchange carries. */
  readonly tensors: readonly TensorName[];
  /** First position from which the sync is needed. */
  readonly from: number;
  readonly reason: string;
  /** Block syncs inside the stage: after which phase, and why. */
  readonly blockSyncs: readonly { readonly after: string; readonly reason: string }[];
}

export interface Cost {
  readonly stages: readonly StageCost[];
  readonly barriersPerToken: number;
  readonly exchangesPerToken: number;
  readonly bytes: { readonly weights: number; readonly kvPerPosition: number };
  /** One token at position 0 [us]; null without a known bandwidth. */
  readonly micros: number | null;
  readonly tokensPerSecond: number | null;
  readonly stream: (StreamCost & Overlap) | null;
}

/** What goes on side by side in a token [us]. */
interface Overlap {
  readonly streamMicros: number | null;
  readonly chainMicros: number;
  readonly exchangeMicros: number;
}

/**
 * Predicted time of each stage and of a token. At barriers nothing is overlapped but reads with reads; a stream goes on beside the chain of
 * exchanges, and the longer of the two is the time. What blocks compute is left out.
 */
export function estimate(schedule: Schedule): Cost {
  const { target, dims } = schedule;
  const stages = schedule.stages.map((stage) => stageCost(schedule, stage));
  const runs = (stage: StageCost) => (stage.part === 'layer' ? dims.layers : 1);
  const sum = (value: (stage: StageCost) => number) =>
    stages.reduce((total, s) => total + runs(s) * value(s), 0);
  const count = (sync: StageCost['sync']) => sum((s) => (s.sync === sync && s.from === 0 ? 1 : 0));
  const readMicros = target.bandwidth === null ? null : sum((s) => s.micros!);
  const syncMicros = sum((s) => s.syncMicros);
  const stream = streamCost(schedule);
  const both = (read: number) => (stream ? Math.max(read, syncMicros) : read + syncMicros);
  const micros = readMicros === null ? null : both(readMicros);
  return {
    stages,
    barriersPerToken: count('grid'),
    exchangesPerToken: count('exchange'),
    bytes: bytesOf(dims),
    micros,
    tokensPerSecond: micros === null ? null : 1e6 / micros,
    stream: stream && {
      ...stream,
      streamMicros: readMicros,
      chainMicros: syncMicros,
      exchangeMicros: exchangeMicros(target),
    },
  };
}

function stageCost(schedule: Schedule, stage: ScheduledStage): StageCost {
  const { bandwidth } = schedule.target;
  const product = schedule.stream?.products.find((one) => one.stage === stage.name);
  const weightBytes = product ? product.tiles * product.tileBytes : stage.weightBytes;
  return {
    name: stage.name,
    part: stage.part,
    over: stage.over + (stage.split ? ` x ${schedule.splits}` : ''),
    ops: markedOps(stage),
    units: stage.units,
    weightBytes,
    micros: bandwidth === null ? null : weightBytes / (bandwidth * 1e3),
    ...syncOf(schedule, stage),
    blockSyncs: schedule.syncs
      .filter((s) => s.scope === 'block' && s.after.stage === stage.name)
      .map((s) => ({ after: stage.phases[s.after.phase]!.kind, reason: s.reason })),
  };
}

type SyncCost = Pick<StageCost, 'sync' | 'syncMicros' | 'tensors' | 'from' | 'reason'>;

const exchangeMicros = (target: Target): number => target.exchangeMicros ?? target.barrierMicros;

const noSync: SyncCost = { sync: null, syncMicros: 0, tensors: [], from: 0, reason: '' };

/** The sync behind a stage. While one block has all positions of a head it makes att itself, and nothing is merged. */
function syncOf({ target, stream, stages, syncs }: Schedule, stage: ScheduledStage): SyncCost {
  const merging = stages.find((one) => one.ops.includes('attn_merge'))!;
  const merges = stream === null || stream.splits > 1;
  if (stage === merging && !merges) return noSync;
  const maker = stage.ops.includes('attend') && !merges ? merging : stage;
  const found = syncs.find((s) => s.scope !== 'block' && s.after.stage === maker.name);
  if (!found) return noSync;
  const { reason, tensors } = found;
  if (!stream) return { ...noSync, sync: 'grid', syncMicros: target.barrierMicros, reason };
  const from = stage === merging ? stream.splitFrom : 0;
  const syncMicros = from > 0 ? 0 : exchangeMicros(target);
  return { sync: 'exchange', syncMicros, tensors: tensors ?? [], from, reason };
}
