// What barriers should cost: reads and waits one after the other.
import { type Cost, costOf } from '../../schedule/cost.ts';
import type { BarrierSchedule } from './schedule.ts';
import { tuningLines } from './tuning.ts';

/** A token at a position. What blocks compute is left out. */
export function barrierCost(schedule: BarrierSchedule, position = 0): Cost {
  const { target, syncs } = schedule;
  const of = (name: string, scope: 'grid' | 'block') =>
    syncs.filter((sync) => sync.scope === scope && sync.after.stage === name);
  const { warps } = schedule;
  return costOf(schedule, {
    position,
    syncName: 'grid barriers',
    splits: [schedule.splits, schedule.splits],
    weightBytes: (stage) => stage.weightBytes,
    syncs: ({ name }) =>
      of(name, 'grid').map(({ reason }) => ({
        scope: 'grid',
        micros: target.barrierMicros,
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
    together: (readMicros, syncMicros) => readMicros + syncMicros,
    lines: tuningLines(schedule),
    basis: () =>
      `at ${target.bandwidth} GB/s (${target.bandwidthFrom}) and ${target.barrierMicros} us a barrier`,
  });
}
