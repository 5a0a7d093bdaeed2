// gen verify: the library's logits and tokens against a golden file, or against the unfused reference.
import { contextFor, engineScorer, storedGolden } from '../lab/truth.ts';
import type { BuiltKernel } from '../load.ts';
import type { AskedModel } from '../preflight.ts';
import type { VerifyResult } from '../runtime/verify/verify.ts';
import { computeGolden } from './compute-golden.ts';
import { exitCode } from './exit-code.ts';
import { engineCommand, flags, helpEnd, needGolden, needModel, type Program } from './flags.ts';
import { buildWithProgress, kernelOptions, openWithProgress } from './load-kernel.ts';
import { engineOptions } from './reply.ts';
import { type Start, seconds, type Ui } from './ui.ts';

export function addVerify(program: Program, start: Start): void {
  engineCommand(program, 'verify')
    .argument('[model]', 'the same as --model')
    .description(
      'compare logits and tokens with a golden file, or with the built-in reference; exit 1 out of tolerance',
    )
    .optionsGroup('Verify:')
    .option(
      '--golden <file>',
      'file of logits to compare with (default: golden.json beside the weights, else the reference)',
    )
    .option(...flags.randomToVerify)
    .option(...flags.report)
    .addHelpText(
      'after',
      helpEnd(
        'gen verify --model qwen3-tiny',
        'gen verify --model path/to/Qwen3-0.6B --target cpu --plan unfused',
      ),
    )
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'verify', word);
        if (options.report) (await import('./report-file.ts')).needReports();
        const { randomWeights } = options;
        needGolden(options);
        const built = await buildWithProgress(ui, kernelOptions(model, options, ui), {
          weights: !randomWeights,
          run: engineOptions(options),
          also: goldenFits(options),
        });
        const random = randomWeights ? { randomWeights: { seed: 0 } } : {};
        const result = await verifyWithProgress(ui, built, {
          ...engineOptions(options),
          ...random,
          golden: options.golden,
        });
        const { formatVerify } = await import('../runtime/verify/format-verify.ts');
        if (ui.json) ui.result({ kernel: built.kernel.name, hash: built.kernel.hash, ...result });
        else ui.data(formatVerify(result));
        if (options.report) {
          const { writeReport } = await import('./report-file.ts');
          const { ok, source, device } = result;
          const { logit, kl, nll } = result.tolerance;
          const worstLogitError = Math.max(...result.cases.map((one) => one.logit.error));
          const cases = result.cases.length;
          const figures = { ok, source, device, cases, worstLogitError, tolerance: { logit, kl, nll } };
          ui.note(`report: ${writeReport(built.kernel, { verify: figures })}`);
        }
        return result.ok ? exitCode.ok : exitCode.failed;
      }),
    );
}

/** Before a build: that a golden file is whole, and that its cases fit the context that is asked for. */
export const goldenFits =
  (options: { readonly golden?: string | undefined; readonly context?: number | undefined }) =>
  async ({ dims, directory, functions }: AskedModel): Promise<void> => {
    const golden = await storedGolden(dims, directory, functions, options.golden);
    if (golden) contextFor(golden, dims, options.context);
  };

/** Opens the library with room for the longest case and verifies it. */
export async function verifyWithProgress(
  ui: Ui,
  built: BuiltKernel,
  options: Parameters<typeof openWithProgress>[2] & { readonly golden?: string | undefined },
): Promise<VerifyResult & { readonly device: string }> {
  const { golden: path, ...engine } = options;
  const { dims, modelDirectory } = built;
  const { functions } = built.kernel.plan;
  const golden =
    (await storedGolden(dims, modelDirectory, functions, path)) ??
    (await computeGolden(ui, modelDirectory!, dims, functions));
  const context = contextFor(golden, dims, engine.context);
  const { engine: opened } = await openWithProgress(ui, built, { ...engine, context });
  const progress = ui.progress('verifying');
  const started = performance.now();
  try {
    const { verify } = await import('../runtime/verify/verify.ts');
    progress.update(null, golden.source);
    const scorer = engineScorer(opened, ui.io.signal);
    const result = await verify(scorer, golden, {
      dims,
      dtype: dims.dtype,
      extraRoundings: built.manifest.roundings,
    });
    progress.end(`verified ${golden.cases.length} cases in ${seconds(performance.now() - started)}`);
    return { ...result, device: opened.device };
  } catch (error) {
    progress.end();
    throw error;
  } finally {
    opened.close();
  }
}
