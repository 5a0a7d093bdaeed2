// gen explore: variants of a plan, verified and timed beside it, ranked; and the journals of such experiments.
import { OnelaunchError } from '../errors.ts';
import type { VariantRecord } from '../lab/journal-records.ts';
import type { Axis } from '../lab/vary.ts';
import { exitCode } from './exit-code.ts';
import {
  type ExperimentFlags,
  headerOf,
  isAllRight,
  journalName,
  noteDropped,
  noVariant,
  type Prepared,
  prepare,
  runExperiment,
} from './experiment.ts';
import { checkOut, experimentCommand } from './experiment-flags.ts';
import { rowsOf, showFindings } from './findings-table.ts';
import { helpEnd, needBeside, needModel, needNoneOf, needNoOthers, type Program } from './flags.ts';
import { listJournals, mergeJournals } from './journals.ts';
import { needApart } from './output-file.ts';
import { counted, fixed, type Start, table, type Ui } from './ui.ts';
import { oneOf, share, timesOrNone, whole } from './values.ts';
import { standing, writeWinner } from './winner.ts';

const strategies = ['grid', 'random', 'halving'] as const;
/** Of a grid or of halving: more are never all tried. */
const mostCombinations = 20_000;

interface ExploreFlags extends ExperimentFlags {
  readonly vary?: readonly string[] | undefined;
  readonly strategy: (typeof strategies)[number];
  readonly samples: number;
  readonly seed: number;
  readonly prune: number;
  readonly shard?: { readonly part: number; readonly parts: number } | undefined;
  readonly explain?: true | undefined;
  readonly markdown?: true | undefined;
}

export function addExplore(program: Program, start: Start): void {
  experimentCommand(program, 'explore')
    .argument('[model]', 'the same as --model; or list, merge: what is done with journals')
    .argument('[journals...]', 'of list and merge')
    .description(
      'try variants of a plan: build, verify and time each beside it, and rank them; or show and merge journals',
    )
    .optionsGroup('Variants:')
    .option(
      '--vary <list>',
      'option=values, op=own, op=*, stage=*, scheme=*; values are 0..3, lists, or * for all; may be given again',
      (text: string, before: readonly string[] = []) => [...before, text],
    )
    .option(
      '--strategy <name>',
      'grid: all; random: some of many; halving: all in short runs, ever fewer in longer ones',
      oneOf(strategies),
      'grid',
    )
    .option('--samples <n>', 'variants of --strategy random', whole(1, 100_000), 50)
    .option('--seed <n>', 'which ones', whole(0, 2 ** 32 - 1), 0)
    .option(
      '--prune <x>',
      'do not build what is predicted so many times slower than the best; 0: build all',
      timesOrNone(1000),
      1.5,
    )
    .option('--shard <i/n>', 'only this part of the variants; merge puts the journals together', share)
    .option('--explain', 'list the variants and what is predicted of them, and build nothing')
    .option('--out <file>', 'write the best variant as a plan file')
    .option('--markdown', 'print the table for a document')
    .addHelpText(
      'after',
      helpEnd(
        "gen explore qwen3-tiny --target cpu --vary 'attn_norm=*,attention=*' --out best.ts",
        "gen explore --model qwen3-0.6b --plan stream --vary 'slots=8..12,window=*' --strategy halving --budget 10m",
        'gen explore list explore-qwen3-tiny-cpu-1f2e3d.jsonl',
        'gen explore merge a.jsonl b.jsonl --journal all.jsonl',
      ),
    )
    .action((word, journals, options, command) =>
      start(options, async (ui) => {
        if (word === 'list') {
          needNoOthers(command, 'explore list', ['--markdown']);
          return await listJournals(ui, journals, options);
        }
        if (word === 'merge') {
          needNoOthers(command, 'explore merge', ['--journal', '--markdown']);
          return await mergeJournals(ui, journals, options);
        }
        if (journals.length > 0) {
          throw new OnelaunchError('usage', `'${journals[0]}' stands behind the model`, {
            hint: 'a model, or list and merge with journals behind them',
          });
        }
        const random = { is: options.strategy === 'random', other: '--strategy random' };
        needBeside(command, '--samples', random);
        needBeside(command, '--seed', random);
        if (options.explain) needNoneOf(command, '--explain', ofWork);
        return await exploreModel(ui, needModel(options, 'explore', word), options);
      }),
    );
}

/** Flags that say how variants are built, verified and timed, and what is made of that. */
const ofWork = [
  ...['--build-only', '--measure-only', '--jobs', '--budget', '--journal', '--out', '--markdown'],
  ...['--device', '--rounds', '--together', '--random-weights', '--golden'],
];

async function exploreModel(ui: Ui, model: string, flags: ExploreFlags): Promise<number> {
  const { readVary } = await import('../lab/vary.ts');
  const { mark } = await import('../lab/plan-file.ts');
  const axes = readVary(flags.vary ?? []);
  if (axes.length === 0) {
    throw new OnelaunchError('usage', 'nothing is varied', {
      hint: "for example: --vary 'prefetch=0..3,attn_norm=*'; gen explain shows the stages and ops of a plan",
    });
  }
  checkOut(flags.out, mark);
  // What was measured would be gone.
  needApart(['--out', flags.out], [['--journal', flags.journal]]);
  const prepared = await prepare(ui, model, flags);
  const { functions, file } = prepared.base;
  // The new file imports ops of the plan from the old one.
  if (Object.keys(functions).length > 0) needApart(['--out', flags.out], [['--plan', file ?? undefined]]);
  const { candidates, shown } = await candidatesFor(ui, prepared, axes, flags);
  if (candidates.length < 2 && !flags.shard) throw noVariant(prepared);
  if (flags.explain) {
    if (ui.json) ui.result(shown);
    else ui.data(explainTable(shown));
    return exitCode.ok;
  }
  const header = headerOf(prepared, candidates[0]!.record.id, flags, {
    ...{ command: 'explore', strategy: flags.strategy, seed: flags.seed, prune: flags.prune || null },
    vary: axes.map(({ key, values }) => `${key}=${values.join()}`),
    samples: flags.strategy === 'random' ? flags.samples : null,
    shard: flags.shard ? `${flags.shard.part}/${flags.shard.parts}` : null,
  });
  const strategy = { strategy: flags.strategy, rounds: flags.rounds, together: flags.together, final: true };
  const findings = await runExperiment(ui, prepared, candidates, header, flags, strategy);
  const variants = rowsOf(findings, header);
  const [best] = variants;
  if (ui.json) ui.result({ journal: flags.journal ?? journalName(header), ...header, variants });
  else showFindings(ui, findings, header, flags.markdown);
  if (flags.out !== undefined && best?.rank !== 1) {
    const why = candidates.length < 2 ? 'this shard has no variant' : 'nothing is timed yet';
    ui.warn(`${why}: ${flags.out} is not written`);
  }
  if (flags.out !== undefined && best?.rank === 1) {
    const winner = candidates.find(({ record }) => record.id === best.id)!;
    await writeWinner(ui, prepared, winner, `${best.label}, ${standing(best, header)}`, flags.out);
  }
  return isAllRight(findings) ? exitCode.ok : exitCode.failed;
}

/** The variants of the flags, in the order in which they are tried, and what is told of them. */
async function candidatesFor(
  ui: Ui,
  { checked: { dims, target }, base, positions }: Prepared,
  axes: readonly Axis[],
  flags: ExploreFlags,
) {
  const { choicesOf, sizeOf } = await import('../lab/space.ts');
  const { candidatesOf, combinationsOf } = await import('../lab/enumerate.ts');
  const { pruned, whyNotPredicted } = await import('../lab/prune.ts');
  const { isOfShard } = await import('../lab/merge.ts');
  const { decoderGraph } = await import('../codegen/model/graph.ts');
  const choices = choicesOf(axes, { graph: decoderGraph(dims), base, target });
  const size = sizeOf(choices);
  const isRandom = flags.strategy === 'random';
  if (size > mostCombinations && !isRandom) {
    throw new OnelaunchError('usage', `--vary has ${size.toLocaleString('en')} combinations`, {
      hint: '--strategy random --samples 50 tries some of them',
    });
  }
  const progress = ui.progress('enumerating');
  const found = await candidatesOf(
    combinationsOf(choices, base, isRandom ? flags.seed : null),
    { dims, target, base, positions },
    isRandom ? flags.samples : size,
    (others) => {
      ui.io.signal.throwIfAborted();
      progress.update(null, `${others} variants`);
    },
  ).finally(() => progress.end());
  noteDropped(ui, found.dropped);
  const records = found.candidates.map(({ record }) => record);
  const why = whyNotPredicted(records);
  if (why !== null) ui.note(`nothing is pruned or ranked by predictions: ${why}`);
  const marked = pruned(records, flags.prune || null);
  const count = marked.filter((record) => record.pruned !== null).length;
  if (count > 0) ui.note(`${count} pruned: predicted more than ${flags.prune} times slower than the best`);
  const mine = marked.filter((_, i) => isOfShard(i, flags.shard ?? null));
  ui.note(
    `${counted(mine.length - 1, 'variant')} beside ${base.name}${flags.shard ? `, of ${marked.length - 1}` : ''}`,
  );
  const planOf = new Map(found.candidates.map((one) => [one.record.id, one.plan]));
  const candidates = mine.map((record) => ({
    record,
    plan: planOf.get(record.id)!,
  }));
  return { candidates, shown: mine };
}

function explainTable(records: readonly VariantRecord[]): string {
  const rows = records.map(({ label, id, predicted, pruned, alike }) => {
    const rates = predicted.map((rate) => fixed(rate, 0) ?? '-').join(' ');
    return [label, id, rates, alike.length || null, pruned ?? ''];
  });
  return table(['variant', 'kernel', 'predicted tok/s', 'alike', ''], rows);
}
