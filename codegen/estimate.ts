// What a schedule should cost on its target: bytes over bandwidth, plus the barriers. A prediction, to be held against a measurement.
import { bytesOf } from './packing.ts';
import { markedOps, type Schedule, type ScheduledStage } from './schedule.ts';

export interface StageCost {
  readonly name: string;
  readonly part: ScheduledStage['part'];
  readonly over: string;
  /** Ops in order; `*` marks those that every block makes for itself. */
  readonly ops: readonly string[];
  readonly units: number;
  /** Bytes of weights that one run of the stage reads. */
  readonly weightBytes: number;
  /** Time to read them [us]; null without a known bandwidth. */
  readonly micros: number | null;
  readonly syncMicros: number;
  readonly sync: 'grid' | null;
  readonly reason: string;
  /** Block syncs inside the stage: after which phase, and why. */
  readonly blockSyncs: readonly { readonly after: string; readonly reason: string }[];
}

export interface Cost {
  readonly stages: readonly StageCost[];
  readonly barriersPerToken: number;
  readonly bytes: { readonly weights: number; readonly kvPerPosition: number };
  /** One token at position 0 [us]; null without a known bandwidth. */
  readonly micros: number | null;
  readonly tokensPerSecond: number | null;
}

/** Predicted time of each stage and of a token, with nothing overlapped but reads with reads. */
export function estimate(schedule: Schedule): Cost {
  const { target, dims } = schedule;
  const stages = schedule.stages.map((stage) => stageCost(schedule, stage));
  const runs = (stage: StageCost) => (stage.part === 'layer' ? dims.layers : 1);
  const sum = (value: (stage: StageCost) => number) =>
    stages.reduce((total, s) => total + runs(s) * value(s), 0);
  const micros = target.bandwidth === null ? null : sum((s) => s.micros! + s.syncMicros);
  return {
    stages,
    barriersPerToken: sum((s) => (s.sync === 'grid' ? 1 : 0)),
    bytes: bytesOf(dims),
    micros,
    tokensPerSecond: micros === null ? null : 1e6 / micros,
  };
}

function stageCost(schedule: Schedule, stage: ScheduledStage): StageCost {
  const { bandwidth, barrierMicros } = schedule.target;
  const grid = schedule.syncs.find((s) => s.scope === 'grid' && s.after.stage === stage.name);
  return {
    name: stage.name,
    part: stage.part,
    over: stage.over + (stage.split ? ` x ${schedule.splits}` : ''),
    ops: markedOps(stage),
    units: stage.units,
    weightBytes: stage.weightBytes,
    micros: bandwidth === null ? null : stage.weightBytes / (bandwidth * 1e3),
    syncMicros: grid ? barrierMicros : 0,
    sync: grid ? 'grid' : null,
    reason: grid?.reason ?? '',
    blockSyncs: schedule.syncs
      .filter((s) => s.scope === 'block' && s.after.stage === stage.name)
      .map((s) => ({ after: stage.phases[s.after.phase]!.kind, reason: s.reason })),
  };
}
