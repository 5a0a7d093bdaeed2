// Plans with tiles whose syncs are taken out one at a time: who notices.
import { render } from '../../codegen/emit/render.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import type { FusionPlan } from '../../codegen/plan/plan.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { tilesScheme } from '../../codegen/schemes/tiles/index.ts';
import type { TilesSchedule } from '../../codegen/schemes/tiles/schedule.ts';

/** The kernel of a schedule as text, beside nothing that decodes. */
export function textOfTiles(made: TilesSchedule): string {
  const view = tilesScheme.view({ ...made, leastTokens: made.leastTokens ?? 1 }, { command: 'gen', ops: [] });
  const { kernel, model } = tilesScheme.templates(made.target);
  return render(kernel, view) + render(model, view);
}

/** The names of syncs, and which of the text, the walk and the simulator did not miss one that was taken out. */
export function unmissedTiles(
  dims: ModelDims,
  plan: FusionPlan,
  target: Target,
): { readonly syncs: readonly string[]; readonly unmissed: readonly string[] } {
  const whole = tilesScheme.lower(decoderGraph(dims), plan, target);
  const tiny = tilesScheme.tiny(dims, plan, target);
  const text = textOfTiles(whole);
  const syncs = whole.syncs.map(({ after }) => after.stage);
  const unmissed = syncs.flatMap((stage) => {
    const without = (made: TilesSchedule): TilesSchedule => ({
      ...made,
      syncs: made.syncs.filter(({ after }) => after.stage !== stage),
    });
    const isFaulty = [1, 2, 3].some((seed) =>
      tiny.machines.some((run) => tilesScheme.simulate(without(tiny.schedule), { ...run, seed }).length > 0),
    );
    return [
      ...(textOfTiles(without(whole)) === text ? [`${stage}: same text`] : []),
      ...(tilesScheme.uncovered(without(whole)).length > 0 ? [] : [`${stage}: covered`]),
      ...(isFaulty ? [] : [`${stage}: no fault`]),
    ];
  });
  return { syncs, unmissed };
}

/** Faults of the whole schedule: there are none. */
export function faultsOfTiles(dims: ModelDims, plan: FusionPlan, target: Target): readonly string[] {
  const { schedule, machines } = tilesScheme.tiny(dims, plan, target);
  return machines.flatMap((run) =>
    tilesScheme.simulate(schedule, { ...run, seed: 1 }).map(({ text }) => text),
  );
}
