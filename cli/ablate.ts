// gen ablate: what each option and each named variant of a plan is worth, one at a time.
import type { FusionPlan } from '../codegen/plan/plan.ts';
import { OnelaunchError } from '../errors.ts';
import { exitCode } from './exit-code.ts';
import {
  type ExperimentFlags,
  headerOf,
  isAllRight,
  journalName,
  noteDropped,
  noVariant,
  prepare,
  runExperiment,
} from './experiment.ts';
import { experimentCommand } from './experiment-flags.ts';
import { rowsOf, showFindings } from './findings-table.ts';
import { givenTwice, helpEnd, needModel, type Program } from './flags.ts';
import { counted, type Start, type Ui } from './ui.ts';

interface AblateFlags extends ExperimentFlags {
  readonly plans?: readonly string[] | undefined;
  readonly vary?: readonly string[] | undefined;
  readonly markdown?: true | undefined;
}

export function addAblate(program: Program, start: Start): void {
  experimentCommand(program, 'ablate')
    .argument('[plan]', 'the same as --plan')
    .description(
      'time what each option and each named variant of a plan is worth, one at a time beside the plan',
    )
    .optionsGroup(
      'Variants (default: each option of its scheme alone, and its variants that ship or that its file exports):',
    )
    .option(
      '--plans <list>',
      'these plans, names (of its own variants, too) or files, and nothing else but what --vary names',
      (text: string) => text.split(','),
    )
    .option(
      '--vary <list>',
      'each of these values alone, written as for gen explore; may be given again',
      (text: string, before: readonly string[] = []) => [...before, text],
    )
    .option('--markdown', 'print the table for a document')
    .addHelpText(
      'after',
      helpEnd(
        'gen ablate cooperative --model qwen3-tiny --target cpu',
        'gen ablate stream --model qwen3-0.6b --plans stream-unsplit,stream-epochs --markdown',
      ),
    )
    .action((word, options) =>
      start(options, async (ui) => {
        if (word !== undefined && options.plan !== undefined) throw givenTwice('plan', options.plan, word);
        if (word !== undefined && !options.model) {
          throw new OnelaunchError('usage', `no --model given: ${word} is the plan`, {
            hint: 'for example: gen ablate cooperative --model qwen3-tiny; gen models lists the known ones',
          });
        }
        const model = needModel(options, 'ablate');
        return await ablate(ui, model, { ...options, plan: options.plan ?? word });
      }),
    );
}

async function ablate(ui: Ui, model: string, flags: AblateFlags): Promise<number> {
  const { readVary } = await import('../lab/vary.ts');
  const axes = readVary(flags.vary ?? []);
  const { resolvePlan, resolveVaried, shippedVariants } = await import('../configs/resolve.ts');
  const varied = flags.plan === undefined ? null : await resolveVaried(flags.plan);
  const asked: FusionPlan[] = [];
  for (const name of flags.plans ?? [])
    asked.push(varied?.variants.find((plan) => plan.name === name) ?? (await resolvePlan(name)));
  const prepared = await prepare(ui, model, flags, varied?.plan);
  const { checked, base, positions } = prepared;
  const { dims, target } = checked;
  const { choicesOf } = await import('../lab/space.ts');
  const { alone, namedVariants, optionVariants } = await import('../lab/ablate.ts');
  const { candidatesOf } = await import('../lab/enumerate.ts');
  const { decoderGraph } = await import('../codegen/model/graph.ts');
  const isAsked = asked.length > 0 || axes.length > 0;
  const variants = [
    ...(isAsked ? [] : optionVariants(base)),
    ...alone(base, choicesOf(axes, { graph: decoderGraph(dims), base, target })),
    ...namedVariants(isAsked ? asked : (varied?.variants ?? shippedVariants(base))),
  ];
  const progress = ui.progress('printing');
  const found = await candidatesOf(variants, { dims, target, base, positions }, variants.length, () =>
    ui.io.signal.throwIfAborted(),
  ).finally(() => progress.end());
  noteDropped(ui, found.dropped);
  if (found.candidates.length < 2) throw noVariant(prepared);
  ui.note(`${counted(found.candidates.length - 1, 'variant')} beside ${base.name}`);
  const header = headerOf(prepared, found.candidates[0]!.record.id, flags, {
    ...{ command: 'ablate', strategy: 'grid', samples: null, seed: 0, prune: null, shard: null },
    vary: variants.map(({ label }) => label),
  });
  const strategy = {
    strategy: 'grid',
    rounds: flags.rounds,
    together: flags.together,
    final: false,
  } as const;
  const findings = await runExperiment(ui, prepared, found.candidates, header, flags, strategy);
  if (ui.json) {
    ui.result({
      journal: flags.journal ?? journalName(header),
      ...header,
      variants: rowsOf(findings, header),
    });
  } else showFindings(ui, findings, header, flags.markdown);
  return isAllRight(findings) ? exitCode.ok : exitCode.failed;
}
