// gen explain: the schedule of a plan as a table. Writes no files, needs no GPU.
import { OnelaunchError } from '../errors.ts';
import { helpEnd, kernelCommand, needModel, needPosition, type Program } from './flags.ts';
import { kernelOptions } from './load-kernel.ts';
import type { Start } from './ui.ts';
import { mostPositions, whole } from './values.ts';

export function addExplain(program: Program, start: Start): void {
  kernelCommand(program, 'explain')
    .argument('[model]', 'the same as --model')
    .description('show the schedule: stages, bytes, syncs and their reasons, predicted times')
    .option(
      '--position <n>',
      'position of the token: how many of the KV cache it reads, from 0 on',
      whole(0, mostPositions - 1),
      0,
    )
    .option(
      '--prompt <n>',
      'say how a prompt of so many tokens is taken in, behind those before --position',
      whole(1, mostPositions),
    )
    .addHelpText(
      'after',
      helpEnd(
        'gen explain --model qwen3-0.6b --target h100 --plan cooperative',
        'gen explain --model qwen3-0.6b --target h100 --prompt-plan prefill --prompt 2000',
      ),
    )
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'explain', word);
        const { preflight } = await import('../preflight.ts');
        const { choiceOf, estimate, explainTable, generate, optionsWithoutEffect, passesText } = await import(
          '../codegen/index.ts'
        );
        const { prompt } = options;
        const checked = await preflight(kernelOptions(model, options, ui), {});
        const { dims, target, plan, planReason, notes } = checked;
        for (const note of notes) ui.warn(note);
        needPosition('--position', options.position, dims);
        const room = dims.maxPositions - options.position;
        if (prompt !== undefined && prompt > room) {
          const behind = options.position > 0 ? ` behind --position ${options.position}` : '';
          const text = `--prompt is '${prompt}', and ${dims.name} has ${room} positions${behind}`;
          throw new OnelaunchError('usage', text, { hint: `for example: --prompt ${room}` });
        }
        if (planReason) ui.note(`plan ${plan.name}: ${planReason}`);
        const kernel = await generate(checked);
        const { schedule, prompts } = kernel;
        if (schedule.scheme !== plan.scheme.kind) {
          ui.note(
            `${target.name} cannot copy while it computes: the stages of a stream run between barriers there`,
          );
        }
        const unused = optionsWithoutEffect(plan, target);
        if (unused.length > 0) ui.note(`without effect on ${target.name}: ${unused.join(', ')}`);
        const cost = estimate(schedule, options.position);
        const ofPrompts = prompts && estimate(prompts.schedule, options.position);
        const choice = prompt === undefined ? null : choiceOf(prompt, kernel, options.position);
        if (ui.json) {
          const { passTokens } = schedule;
          const promptPlan = prompts && {
            plan: prompts.plan.name,
            launchTokens: prompts.schedule.passTokens,
            ...ofPrompts!,
          };
          ui.result({
            ...{ model: dims.name, plan: plan.name, target: target.name, passTokens },
            ...{ ...cost, promptPlan },
            ...(choice && {
              prompt: {
                ...{ tokens: prompt, passes: choice.passes, why: choice.why },
                micros: choice.predicted.micros,
                otherwiseMicros: choice.otherwise?.micros ?? null,
              },
            }),
          });
        } else {
          const tables = [explainTable(schedule, cost)];
          if (prompts) tables.push(explainTable(prompts.schedule, ofPrompts!));
          if (choice) {
            const { passes, why } = choice;
            const behind =
              options.position > 0 ? ` behind ${options.position.toLocaleString('en')} others` : '';
            const tokens = prompt === 1 ? '1 token' : `${prompt!.toLocaleString('en')} tokens`;
            tables.push(`a prompt of ${tokens}${behind}: ${passesText(passes)}\n${why}`);
          }
          ui.data(tables.map((text) => text.trimEnd()).join('\n\n'));
        }
        return 0;
      }),
    );
}
