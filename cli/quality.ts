// gen quality: KL, top-1 agreement and likelihood of real text, against the float32 reference.
import type { ModelDims } from '../codegen/model/dims.ts';
import { OnelaunchError } from '../errors.ts';
import type { Quality } from '../lab/quality.ts';
import type { QualityText } from '../lab/quality-text.ts';
import { engineScorer } from '../lab/truth.ts';
import type { BuiltKernel } from '../load.ts';
import type { CheckedModel } from '../preflight.ts';
import { longestCase } from '../runtime/verify/longest-case.ts';
import { exitCode } from './exit-code.ts';
import { engineCommand, flags, helpEnd, needGolden, needModel, type Program } from './flags.ts';
import { buildWithProgress, kernelOptions, openWithProgress } from './load-kernel.ts';
import { engineOptions } from './reply.ts';
import { fixed, type Start, table, type Ui } from './ui.ts';
import { whole } from './values.ts';

/** Tokens of a text that count where nobody says how many. */
const usualTokens = 4096;

export function addQuality(program: Program, start: Start): void {
  engineCommand(program, 'quality')
    .argument('[model]', 'the same as --model')
    .description('KL, top-1 agreement and perplexity on real text, against the float32 reference')
    .optionsGroup('Quality:')
    .option(
      '--text <file>',
      'plain text, or JSON as text.json of qwen3-tiny (default: text.json beside the weights)',
    )
    .option('--tokens <n>', `tokens of each text that count (default: ${usualTokens})`, whole(1, 1_000_000))
    .option('--golden <file>', 'the rows of logits of this file, in the place of text and reference')
    .option(...flags.randomToVerify)
    .option(...flags.report)
    .addHelpText(
      'after',
      helpEnd(
        'gen quality --model qwen3-tiny',
        'gen quality --model path/to/Qwen3-0.6B --text notes.txt --tokens 200',
      ),
    )
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'quality', word);
        if (options.report) (await import('./report-file.ts')).needReports();
        const { golden, randomWeights, text, tokens = usualTokens } = options;
        needGolden(options);
        const aboutText = (['text', 'tokens'] as const).find((flag) => options[flag] !== undefined);
        if (golden !== undefined && aboutText) {
          throw new OnelaunchError('usage', `--golden and --${aboutText} are both given`, {
            hint: 'leave one of them out',
          });
        }
        const texts = await import('../lab/quality-text.ts');
        let read: readonly QualityText[] = [];
        let context: number | undefined;
        const onChecked = async ({ dims, directory, files }: CheckedModel) => {
          if (golden !== undefined) return;
          const { chatTemplate } = await import('../runtime/chat/chat-template.ts');
          const reader = { tokenizer: files.tokenizer!, template: () => chatTemplate(directory!) };
          read = texts.readTexts(text ?? texts.textBeside(directory!)!, reader, tokens);
          const lengths = read.flatMap(({ sequences }) => sequences.map(({ ids }) => ids.length));
          context = contextFor(Math.max(...lengths), options.context, dims);
        };
        const built = await buildWithProgress(
          ui,
          { ...kernelOptions(model, options, ui), onChecked },
          {
            weights: !randomWeights,
            ...(golden === undefined ? { tokenizer: 'needed' } : {}),
            run: engineOptions(options),
            also: async ({ dims, directory }) => {
              if (golden !== undefined) {
                const { readGolden } = await import('../runtime/verify/golden.ts');
                context = contextFor(longestCase(readGolden(golden, dims)), options.context, dims);
              } else if (
                text === undefined &&
                directory !== null &&
                texts.textBeside(directory) === undefined
              )
                throw noText(directory);
            },
          },
        );
        const results =
          golden === undefined
            ? await ofText(ui, built, { ...options, context, texts: read })
            : await ofGolden(ui, built, { ...options, context, golden });
        const ok = results.every(({ problems }) => problems.length === 0);
        if (ui.json) ui.result({ kernel: built.kernel.name, hash: built.kernel.hash, ok, texts: results });
        else ui.data(qualityText(results));
        const lossy = roundedOf(built.dims);
        if (lossy.length > 0)
          ui.note(`${lossy.join(', ')}: what is lost is shown, not judged; gen verify judges the kernel`);
        if (options.report) {
          const { writeReport } = await import('./report-file.ts');
          ui.note(`report: ${writeReport(built.kernel, { quality: { ok, texts: results } })}`);
        }
        return ok ? exitCode.ok : exitCode.failed;
      }),
    );
}

/** What of the model is rounded further than by its dtype. */
const roundedOf = ({ weights, cache }: ModelDims): string[] => [
  ...(weights ? ['weights in blocks'] : []),
  ...(cache ? [`a KV cache in ${cache}`] : []),
];

type EngineFlags = Parameters<typeof engineOptions>[0];

const noText = (directory: string) =>
  new OnelaunchError('usage', `no text lies beside the weights in ${directory}`, {
    hint: 'give one: --text FILE; the reference takes about a second for a token of a 0.6 B model: --tokens 200',
  });

async function ofText(
  ui: Ui,
  built: BuiltKernel,
  flags: EngineFlags & { readonly texts: readonly QualityText[] },
): Promise<Quality[]> {
  const [{ countedOf }, { qualityOf }, { referenceScorer }] = await Promise.all([
    import('../lab/quality-text.ts'),
    import('../lab/quality.ts'),
    import('../runtime/verify/scorers.ts'),
  ]);
  const reference = referenceScorer(built.modelDirectory!, {
    ops: built.kernel.plan.functions,
    maxPositions: built.dims.maxPositions,
  });
  return withEngine(ui, built, flags, async (ours, common, progress) => {
    const results: Quality[] = [];
    for (const text of flags.texts) {
      const total = text.sequences.reduce((sum, sequence) => sum + countedOf(sequence), 0);
      const onTokens = (done: number) => progress(done / total, `${text.name}: ${done} of ${total} tokens`);
      results.push(await qualityOf(ours, reference, text, { ...common, onTokens }));
    }
    return results;
  });
}

async function ofGolden(
  ui: Ui,
  built: BuiltKernel,
  flags: EngineFlags & { readonly golden: string; readonly randomWeights?: true | undefined },
): Promise<Quality[]> {
  const [{ readGolden }, { qualityOfGolden }] = await Promise.all([
    import('../runtime/verify/golden.ts'),
    import('../lab/quality.ts'),
  ]);
  const golden = readGolden(flags.golden, built.dims);
  return withEngine(ui, built, flags, async (ours, common, progress) => [
    await qualityOfGolden(ours, golden, { ...common, onTokens: (done) => progress(null, `${done} tokens`) }),
  ]);
}

/** Positions for the longest sequence. @throws OnelaunchError of kind usage where fewer were asked for */
function contextFor(longest: number, asked: number | undefined, { maxPositions }: ModelDims): number {
  const context = asked ?? Math.min(maxPositions, Math.max(longest, 256));
  if (longest <= context) return context;
  throw new OnelaunchError('usage', `a sequence has ${longest} tokens, the context holds ${context}`, {
    hint: `--context ${longest}`,
  });
}

/** Opens the library, and closes it. */
async function withEngine(
  ui: Ui,
  built: BuiltKernel,
  flags: EngineFlags & { readonly randomWeights?: true | undefined },
  work: (
    ours: ReturnType<typeof engineScorer>,
    common: Pick<
      Parameters<typeof import('../lab/quality.ts').qualityOf>[3],
      'dims' | 'dtype' | 'extraRoundings' | 'isRounded'
    >,
    progress: (share: number | null, detail: string) => void,
  ) => Promise<Quality[]>,
): Promise<Quality[]> {
  const { dims, manifest } = built;
  const random = flags.randomWeights ? { randomWeights: { seed: 0 } } : {};
  const { engine } = await openWithProgress(ui, built, { ...engineOptions(flags), ...random });
  const shown = ui.progress('measuring');
  try {
    const isRounded = roundedOf(dims).length > 0;
    const common = { dims, dtype: dims.dtype, extraRoundings: manifest.roundings, isRounded };
    return await work(engineScorer(engine, ui.io.signal), common, (share, detail) => {
      ui.io.signal.throwIfAborted();
      shown.update(share, detail);
    });
  } finally {
    shown.end();
    engine.close();
  }
}

function qualityText(results: readonly Quality[]): string {
  const percent = (part: number, of: number) => `${((100 * part) / of).toFixed(2)} %`;
  const header = [
    'text',
    'tokens',
    'mean KL',
    'most',
    'allowed',
    'top-1',
    'NLL',
    'of the reference',
    'perplexity',
    'of the reference',
  ];
  const rows = results.map(({ text, tokens, kl, allowed, top1, nll, perplexity }) => [
    ...[text, tokens, kl.mean.toExponential(2), kl.most.toExponential(2), allowed.kl.toExponential(2)],
    ...[percent(top1.equal, tokens), fixed(nll.ours, 5), fixed(nll.reference, 5)],
    ...[fixed(perplexity.ours, 3), fixed(perplexity.reference, 3)],
  ]);
  const problems = results.flatMap(({ text, problems }) => problems.map((problem) => `${text}: ${problem}`));
  return [table(header, rows), ...(problems.length > 0 ? ['', ...problems] : [])].join('\n');
}
