// What barriers should cost: every stage reads and works, then all blocks meet.
import { meanCached } from '../../model/kinds.ts';
import { columnsOf } from '../../model/ops.ts';
import { type Cost, costOf } from '../../schedule/cost.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import { platformOf } from '../../schedule/target.ts';
import type { Work } from '../../schedule/terms.ts';
import type { BarrierSchedule, Phase } from './schedule.ts';

/** A token at a position. */
export function barrierCost(schedule: BarrierSchedule, position = 0): Cost {
  const { target, syncs } = schedule;
  const of = (name: string, scope: 'grid' | 'block') =>
    syncs.filter((sync) => sync.scope === scope && sync.after.stage === name);
  const { warps } = platformOf(target);
  const ahead = schedule.prefetch;
  return costOf(schedule, {
    position,
    syncName: 'grid barriers',
    splits: [schedule.splits, schedule.splits],
    weightBytes: (stage) => stage.weightBytes,
    syncs: ({ name }) =>
      of(name, 'grid').map(({ reason }) => ({
        scope: 'grid',
        isNeeded: true,
        tensors: [],
        when: '',
        reason,
      })),
    notes: ({ name }) => {
      const { phases } = schedule.stages.find((stage) => stage.name === name)!;
      // A block of one warp needs no sync of its threads.
      return warps === 1
        ? []
        : of(name, 'block').map(({ after, reason }) => ({
            where: `after ${phases[after.phase]!.kind}`,
            text: `block sync: ${reason}`,
          }));
    },
    waits: ({ name }) => of(name, 'grid').map((): Work => ({ term: 'barrier', amount: 1 })),
    work: (stage) => stageWork(schedule, stage, position),
    uneven: (stage) => turnsOf(schedule, stage) / meanTurns(schedule, stage),
    beside: false,
    lines:
      ahead > 0
        ? [`prefetch  before a barrier each block asks for its rows of the stage ${ahead} ahead`]
        : [],
  });
}

const meanTurns = ({ blocks }: BarrierSchedule, { units }: ScheduledStage): number =>
  blocks === 0 || units === 0 ? 1 : units / blocks;

/** Units of the busiest block. */
const turnsOf = (schedule: BarrierSchedule, stage: ScheduledStage): number =>
  Math.ceil(meanTurns(schedule, stage));

function stageWork(schedule: BarrierSchedule, stage: ScheduledStage, position: number): Work[] {
  const { phases } = schedule.stages.find(({ name }) => name === stage.name)!;
  return [
    { term: 'stage', amount: 1 },
    ...phases.flatMap((phase) => phaseWork(schedule, stage, phase, position)),
  ];
}

/** What a phase does of which term. */
function phaseWork(schedule: BarrierSchedule, stage: ScheduledStage, phase: Phase, position: number): Work[] {
  const { dims, splits } = schedule;
  const thousands = (values: number) => values / 1024;
  switch (phase.kind) {
    case 'gather_input':
      return [{ term: 'input', amount: thousands(columnsOf(phase.ops[0]!, dims)) }];
    case 'norm_input':
      return [
        { term: 'input', amount: thousands(dims.hidden) },
        { term: 'norm', amount: thousands(dims.hidden) },
      ];
    case 'merge_input':
      return [{ term: 'merge', amount: thousands(splits * dims.qHeads * dims.headDim) }];
    case 'matmul':
      return [
        { term: 'product', amount: 1 },
        { term: 'loads', amount: loadTurns(schedule, stage) },
      ];
    case 'norm':
      return [
        { term: 'rowwise', amount: 1 },
        { term: 'norm', amount: thousands(dims.hidden) },
      ];
    case 'attn_merge':
      return [
        { term: 'rowwise', amount: 1 },
        { term: 'merge', amount: thousands(splits * dims.headDim * turnsOf(schedule, stage)) },
      ];
    case 'attend':
      return [
        { term: 'attend', amount: turnsOf(schedule, stage) },
        {
          term: 'positions',
          amount: (turnsOf(schedule, stage) * meanCached(dims, position)) / (stage.split ? splits : 1) / 100,
        },
      ];
    case 'sample':
      return [{ term: 'choose', amount: dims.vocab / 1e5 }];
    case 'embed':
      return [{ term: 'token', amount: 1 }];
    case 'pointwise':
    case 'qk_norm':
    case 'rope':
    case 'kv_append':
      return [{ term: 'rowwise', amount: 1 }];
    default:
      return phase.kind satisfies never;
  }
}

/** How often all warps of a block fill the loads that they can have under way; on a CPU, megabytes. */
function loadTurns(schedule: BarrierSchedule, stage: ScheduledStage): number {
  const { blocks, warps } = schedule;
  const inFlight = warps * 32 * 16 * 12;
  return blocks === 0 ? stage.weightBytes / 1e6 : stage.weightBytes / blocks / inFlight;
}
