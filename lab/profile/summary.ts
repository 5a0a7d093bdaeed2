// Where a token's time goes: the events of a profile, added up by stage and phase.
import type { Phase, Role, TrackEvent } from '../../runtime/engine/profile-events.ts';

export const phases = ['weights', 'others', 'compute', 'meet', 'publish'] as const satisfies readonly Phase[];

/** Times [us] of a token. */
export type PhaseTimes = Readonly<Record<Phase, number>>;

export interface StageTimes {
  readonly stage: string;
  /** Passes through it for a token: the layers, or 1. */
  readonly visits: number;
  /** Mean over blocks and passes. */
  readonly mean: PhaseTimes;
  readonly total: number;
  /** Of the token's time. */
  readonly share: number;
  /** What half of the blocks and nine tenths of them work at most, waits for others and for their own warps apart. */
  readonly working: { readonly median: number; readonly p90: number };
  /** Of the block that works longest. */
  readonly slowest: { readonly block: number; readonly working: number };
}

export interface Summary {
  /** Whose tracks are added up. */
  readonly role: Role;
  readonly blocks: number;
  /** Positions whose passes are counted. */
  readonly positions: readonly number[];
  readonly stages: readonly StageTimes[];
  /** [us] of a token. */
  readonly total: number;
  /** A warp that feeds the ring: how it spends its time; null where warps load their weights themselves. */
  readonly producer: PhaseTimes | null;
}

/** The track of each block that stands for it: the block itself, or its first computing warp. */
export const mainRole = (events: readonly TrackEvent[]): Role =>
  events.some((event) => event.role === 'first') ? 'first' : 'block';

/** @param events at least one. @param stages names in the order of the plan */
export function summarize(events: readonly TrackEvent[], stages: readonly string[]): Summary {
  const role = mainRole(events);
  const own = events.filter((event) => event.role === role);
  const blocks = new Set(own.map((event) => event.block));
  const positions = [...new Set(own.map((event) => event.position))].sort((a, b) => a - b);
  const scale = 1 / 1000 / positions.length;
  const perBlock = stages.map(() => new Map<number, Record<Phase, number>>());
  const layers = stages.map(() => new Set<number>());
  for (const event of own) {
    add(perBlock[event.stage]!, event, scale);
    layers[event.stage]!.add(event.layer);
  }
  const means = perBlock.map((of) => meanOf([...of.values()], blocks.size));
  const total = means.reduce((sum, mean) => sum + sumOf(mean), 0);
  const rows = stages.map((stage, i): StageTimes => {
    const working = [...blocks].map((block) => ({ block, working: workingOf(perBlock[i]!.get(block)) }));
    const sorted = working.map((one) => one.working).sort((a, b) => a - b);
    const atMost = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
    return {
      ...{ stage, visits: layers[i]!.size, mean: means[i]!, total: sumOf(means[i]!) },
      share: sumOf(means[i]!) / total,
      working: { median: atMost(0.5), p90: atMost(0.9) },
      slowest: working.reduce((a, b) => (b.working > a.working ? b : a), { block: 0, working: 0 }),
    };
  });
  const feeding = events.filter((event) => event.role === 'producer');
  const feeders = new Map<number, Record<Phase, number>>();
  for (const event of feeding) add(feeders, event, scale);
  return {
    ...{ role, blocks: blocks.size, positions, total },
    stages: rows.filter(({ visits }) => visits > 0),
    producer: feeding.length > 0 ? meanOf([...feeders.values()], feeders.size) : null,
  };
}

const workingOf = (times: PhaseTimes | undefined): number =>
  times ? times.weights + times.compute + times.publish : 0;

const sumOf = (times: PhaseTimes): number => phases.reduce((sum, phase) => sum + times[phase], 0);

function add(to: Map<number, Record<Phase, number>>, event: TrackEvent, scale: number): void {
  const times = to.get(event.block) ?? { weights: 0, others: 0, compute: 0, meet: 0, publish: 0 };
  to.set(event.block, times);
  times[event.phase] += (event.end - event.begin) * scale;
}

function meanOf(list: readonly PhaseTimes[], count: number): PhaseTimes {
  const mean = (phase: Phase) => list.reduce((sum, times) => sum + times[phase], 0) / Math.max(1, count);
  return {
    ...{ weights: mean('weights'), others: mean('others'), compute: mean('compute') },
    ...{ meet: mean('meet'), publish: mean('publish') },
  };
}
