// What barriers should cost: every stage prepares its input, reads beside its products, and works; then all blocks meet.
import { type Cost, costOf } from '../../schedule/cost.ts';
import type { Work } from '../../schedule/terms.ts';
import type { BarrierSchedule } from './schedule.ts';
import { tuningLines } from './tuning.ts';
import { productChains, slowdownOf, stageWork } from './work.ts';

/** A token at a position. */
export function barrierCost(schedule: BarrierSchedule, position = 0): Cost {
  const { syncs, tuning, warps } = schedule;
  const of = (name: string, scope: 'grid' | 'block') =>
    syncs.filter((sync) => sync.scope === scope && sync.after.stage === name);
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
    waits: ({ name }) =>
      of(name, 'grid').map(
        (): Work => ({ term: tuning.barrier === 'grid.sync' ? 'gridSync' : 'barrier', amount: 1 }),
      ),
    work: (stage) => stageWork(schedule, stage, position),
    chains: (stage) => productChains(schedule, stage),
    slowdown: (stage) => slowdownOf(schedule, stage),
    beside: false,
    lines: tuningLines(schedule),
  });
}
