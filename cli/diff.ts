// gen diff: two plans side by side, and what they change in the generated text. Compiles nothing.

import { OnelaunchError } from '../errors.ts';
import type { PlanDiff } from '../lab/diff-plans.ts';
import { usualPositions } from '../lab/measure.ts';
import { exitCode } from './exit-code.ts';
import { flags, helpEnd, needModel, needPosition, outputCommand, type Program } from './flags.ts';
import { type Start, table } from './ui.ts';
import { mostPositions, wholes } from './values.ts';

export function addDiff(program: Program, start: Start): void {
  outputCommand(program, 'diff')
    .argument('<A>', 'a plan: a known name, or a file that exports one')
    .argument('<B>', 'another one')
    .description('compare two plans: stages, options, syncs, bytes, predicted times, and the generated text')
    .option(...flags.model)
    .option(...flags.target)
    .option(...flags.weights)
    .option(...flags.cache)
    .optionsGroup('Diff:')
    .option(
      '--positions <list>',
      'positions of the predictions (default: 1,200,1900)',
      wholes(0, mostPositions - 1),
    )
    .option('--no-text', 'leave out the generated text')
    .addHelpText(
      'after',
      helpEnd(
        'gen diff cooperative unfused --model qwen3-0.6b --target h100',
        'gen diff stream my-plan.ts --model qwen3-0.6b --target h100 --no-text',
      ),
    )
    .action((a, b, options) =>
      start(options, async (ui) => {
        const model = needModel(options, `diff ${a} ${b}`);
        const { preflight } = await import('../preflight.ts');
        const { resolvePlan } = await import('../configs/resolve.ts');
        const plans = [await resolvePlan(a), await resolvePlan(b)] as const;
        const [isOfPrompts, other] = plans.map(({ scheme }) => scheme.kind === 'tiles');
        if (isOfPrompts !== other) {
          const [prompts, decodes] = isOfPrompts ? [a, b] : [b, a];
          throw new OnelaunchError('usage', `plan ${prompts} takes in prompts, and ${decodes} decodes`, {
            hint: 'compare two plans that decode, or two for prompts',
          });
        }
        const asked = isOfPrompts ? { promptPlan: plans[0] } : { plan: plans[0] };
        const { target: named, weights, cache } = options;
        const checked = await preflight({ model, target: named, weights, cache, ...asked }, {});
        const [{ diffPlans }, { builtBefore }] = await Promise.all([
          import('../lab/diff-plans.ts'),
          import('../lab/built-before.ts'),
        ]);
        const { dims, target } = checked;
        for (const note of checked.notes) ui.warn(note);
        const positions = options.positions ?? usualPositions(dims.maxPositions - 1);
        for (const position of positions) needPosition('--positions', position, dims);
        const diff = await diffPlans(plans, { dims, target }, positions, checked.plan, builtBefore);
        const files = options.text ? diff.files : diff.files.map(({ name }) => ({ name }));
        if (ui.json) ui.result({ model: dims.name, target: target.name, ...diff, files });
        else {
          ui.data(diffText(diff, `${dims.name} on ${target.name}`));
          if (options.text && !diff.same) ui.code(await hunksText(diff));
        }
        return exitCode.ok;
      }),
    );
}

function diffText(diff: PlanDiff, where: string): string {
  const { a, b, same, figures } = diff;
  if (same) return `${a} and ${b} make the same kernel of ${where}`;
  const pairsOf = (title: string, pairs: PlanDiff['figures']) =>
    pairs.length === 0
      ? []
      : [
          table(
            [title, a, b],
            pairs.map((pair) => [pair.name, show(pair.a), show(pair.b)]),
          ),
          '',
        ];
  const linesOf = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : [title, ...lines.map((line) => `  ${line}`), ''];
  const files = diff.files.map(({ name }) => name).join(', ');
  return [
    where,
    '',
    ...pairsOf('figures', figures),
    ...linesOf('stages', diff.stages),
    ...linesOf('syncs', diff.syncs),
    ...pairsOf('options', diff.options),
    ...pairsOf('schedule', diff.schedule),
    `${diff.files.length === 1 ? '1 file differs' : `${diff.files.length} files differ`}: ${files}`,
  ].join('\n');
}

async function hunksText({ files }: PlanDiff): Promise<string> {
  const { hunkText } = await import('../lab/text-diff.ts');
  return files.flatMap((file) => ['', file.name, ...file.hunks.map(hunkText)]).join('\n');
}

const show = (value: PlanDiff['figures'][number]['a']) =>
  typeof value === 'boolean' ? String(value) : value;
