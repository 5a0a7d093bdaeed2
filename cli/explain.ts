// gen explain: the schedule of a plan as a table. Writes no files, needs no GPU.
import { helpEnd, kernelCommand, needModel, type Program } from './flags.ts';
import type { Start } from './ui.ts';

export function addExplain(program: Program, start: Start): void {
  kernelCommand(program, 'explain')
    .description('show the schedule: stages, bytes, syncs and their reasons, predicted times')
    .addHelpText('after', helpEnd('gen explain --model qwen3-0.6b --target h100 --plan cooperative'))
    .action((options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'explain');
        const { resolveModel, resolvePlan, resolveTarget } = await import('../configs/resolve.ts');
        const { estimate, explainTable, makeSchedule } = await import('../codegen/index.ts');
        const { dims } = resolveModel(model);
        const target = resolveTarget(options.target);
        const { defaultPlan } = await import('../configs/default-plan.ts');
        const chosen =
          options.plan === undefined
            ? defaultPlan(dims, target)
            : { plan: await resolvePlan(options.plan), why: null };
        const { plan, why } = chosen;
        if (why) ui.note(`plan ${plan.name}: ${why}`);
        const schedule = makeSchedule(dims, plan, target);
        const cost = estimate(schedule);
        if (ui.json) {
          const { passTokens } = schedule;
          ui.result({ model: dims.name, plan: plan.name, target: target.name, passTokens, ...cost });
        } else {
          ui.data(explainTable(schedule, cost).trimEnd());
        }
        return 0;
      }),
    );
}
