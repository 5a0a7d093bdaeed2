// gen explain: the schedule of a plan as a table. Writes no files, needs no GPU.
import { OnelaunchError } from '../errors.ts';
import { helpEnd, kernelCommand, needModel, type Program } from './flags.ts';
import type { Start } from './ui.ts';
import { whole } from './values.ts';

export function addExplain(program: Program, start: Start): void {
  kernelCommand(program, 'explain')
    .argument('[model]', 'the same as --model')
    .description('show the schedule: stages, bytes, syncs and their reasons, predicted times')
    .option(
      '--position <n>',
      'position of the token: how many of the KV cache it reads, from 0 on',
      whole('--position', 0, 16_777_215),
      0,
    )
    .addHelpText('after', helpEnd('gen explain --model qwen3-0.6b --target h100 --plan cooperative'))
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'explain', word);
        const { preflight } = await import('../preflight.ts');
        const { estimate, explainTable, generate, optionsWithoutEffect } = await import(
          '../codegen/index.ts'
        );
        const { dims, target, plan, planReason, notes } = await preflight({ ...options, model }, {});
        for (const note of notes) ui.warn(note);
        const last = dims.maxPositions - 1;
        if (options.position > last) {
          const text = `--position is '${options.position}', and the last position of ${dims.name} is ${last}`;
          throw new OnelaunchError('usage', text, { hint: `for example: --position ${last}` });
        }
        if (planReason) ui.note(`plan ${plan.name}: ${planReason}`);
        const { schedule } = await generate({ dims, plan, target });
        if (schedule.scheme !== plan.scheme.kind) {
          ui.note(
            `${target.name} cannot copy while it computes: the stages of a stream run between barriers there`,
          );
        }
        const unused = optionsWithoutEffect(plan, target);
        if (unused.length > 0) ui.note(`without effect on ${target.name}: ${unused.join(', ')}`);
        const cost = estimate(schedule, options.position);
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
