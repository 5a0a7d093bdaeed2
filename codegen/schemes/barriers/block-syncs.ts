// Block syncs are derived: between phases that share scratch or block-scope tensors.
import type { Hazard } from '../../schedule/hazards.ts';
import { coverSpans, type Meeting, meetingAfter, type Span, twoLayers } from '../../schedule/syncs.ts';
import { type BarrierStage, loops, type Phase, type Region } from './schedule.ts';

const overlap = (a: readonly Region[], b: readonly Region[]): boolean =>
  a.some((x) => b.some((y) => x.lo < y.hi && y.lo < x.hi));

/**
 * The block syncs: between phases that share scratch or block-scope tensors, also from one unit of a loop to the next and from stage
 * to stage. A grid barrier orders the block as well. A sync after the last phase of a looping stage acts once a unit.
 */
export function placeBlockSyncs(
  stages: readonly BarrierStage[],
  hazards: readonly Hazard[],
  grid: readonly Meeting[],
): Meeting[] {
  const barriers = new Set(grid.map((sync) => sync.after.stage));
  const walk = twoLayers(stages).flatMap(({ stage, trip }) => {
    const units = loops(stage) ? [0, 1] : [0];
    return units.flatMap((unit) =>
      stage.phases.map((_, phase) => ({
        ...{ stage, phase, trip, id: `${stage.name} ${phase}` },
        lastUnit: unit === units.length - 1,
      })),
    );
  });
  const spans: Span[] = [];
  for (const [j, to] of walk.entries()) {
    for (let i = j - 1; i >= 0; i--) {
      const from = walk[i]!;
      const ordered =
        from.lastUnit && from.phase === from.stage.phases.length - 1 && barriers.has(from.stage.name);
      if (ordered) break;
      const why = blockConflict(from, to, hazards);
      if (why) spans.push({ from: i, to: j, why });
    }
  }
  const cuts = coverSpans(spans, (step) => walk[step]!.id);
  return [...cuts].map(([id, covered]) => {
    const step = walk.find((s) => s.id === id)!;
    return meetingAfter('block', { stage: step.stage.name, phase: step.phase }, covered);
  });
}

function blockConflict(
  from: { stage: BarrierStage; phase: number; trip: number },
  to: { stage: BarrierStage; phase: number; trip: number },
  hazards: readonly Hazard[],
): string | null {
  const a = from.stage.phases[from.phase]!;
  const b = to.stage.phases[to.phase]!;
  const last = (phase: Phase) => phase.ops.at(-1)!;
  if (overlap(a.scratchWrites, b.scratchReads))
    return `${b.ops[0]!} reads what all threads of the block put into its scratch`;
  if (overlap(a.scratchReads, b.scratchWrites))
    return `${b.ops[0]!} reuses the scratch that ${last(a)} reads`;
  if (overlap(a.scratchWrites, b.scratchWrites)) return `${b.ops[0]!} reuses the scratch of ${last(a)}`;
  const hazard = hazards.find(
    (h) =>
      h.scope === 'block' &&
      a.ops.includes(h.from.op) &&
      b.ops.includes(h.to.op) &&
      h.distance === Math.min(1, to.trip - from.trip) &&
      (from.stage !== to.stage || from.phase < to.phase),
  );
  return hazard?.why ?? null;
}
