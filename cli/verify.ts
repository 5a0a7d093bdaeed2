// gen verify: the library's logits and tokens against a golden file, or against the unfused reference.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { FusionPlan } from '../codegen/index.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import { OnelaunchError } from '../errors.ts';
import type { BuiltKernel } from '../load.ts';
import type { Engine } from '../runtime/engine.ts';
import type { Golden } from '../runtime/golden.ts';
import type { Scorer } from '../runtime/scorers.ts';
import type { VerifyResult } from '../runtime/verify.ts';
import { exitCode } from './errors.ts';
import { engineCommand, helpEnd, needModel, type Program } from './flags.ts';
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
    .option('--random-weights', 'random weights in the place of the checkpoint; needs --golden')
    .option('--report', 'write the figures to bench/reports')
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
        const { randomWeights } = options;
        if (randomWeights && options.golden === undefined) {
          throw new OnelaunchError('usage', '--random-weights has nothing to compare with', {
            hint: 'give --golden FILE, or leave it out and give the directory of a checkpoint',
          });
        }
        const built = await buildWithProgress(ui, kernelOptions(model, options, ui), {
          weights: !randomWeights,
          run: engineOptions(options),
          also: async ({ dims, directory, functions }) => {
            const golden = await storedGolden(dims, directory, functions, options.golden);
            if (golden) contextFor(golden, dims, options.context);
          },
        });
        const random = randomWeights ? { randomWeights: { seed: 0 } } : {};
        const result = await verifyWithProgress(ui, built, {
          ...engineOptions(options),
          ...random,
          golden: options.golden,
        });
        const { formatVerify } = await import('../runtime/format-verify.ts');
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
    (await computeGolden(ui, modelDirectory!, functions));
  const context = contextFor(golden, dims, engine.context);
  const { engine: opened } = await openWithProgress(ui, built, { ...engine, context });
  const progress = ui.progress('verifying');
  const started = performance.now();
  try {
    const { verify } = await import('../runtime/verify.ts');
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

/** Positions that the longest case takes. @throws OnelaunchError when fewer were asked for */
function contextFor(golden: Golden, { maxPositions }: ModelDims, asked: number | undefined): number {
  const longest = Math.max(...golden.cases.map((one) => one.promptIds.length + one.greedyIds.length));
  const context = asked ?? Math.min(maxPositions, Math.max(longest, 256));
  if (longest <= context) return context;
  throw new OnelaunchError(
    'usage',
    `a case of the golden file has ${longest} tokens, the context holds ${context}`,
    { hint: `--context ${longest}` },
  );
}

/** The file that is named, else the one beside the weights, if there is one. */
async function storedGolden(
  { vocab }: ModelDims,
  directory: string | null,
  functions: FusionPlan['functions'],
  path: string | undefined,
): Promise<Golden | null> {
  const { readGolden } = await import('../runtime/golden.ts');
  if (path !== undefined) return readGolden(path, { vocab });
  const isChanged = Object.keys(functions).length > 0;
  // What lies beside the weights is of the model without the plan's own ops.
  const beside = directory === null || isChanged ? undefined : join(directory, 'golden.json');
  return beside !== undefined && existsSync(beside) ? readGolden(beside, { vocab }) : null;
}

async function computeGolden(ui: Ui, directory: string, functions: FusionPlan['functions']): Promise<Golden> {
  const { referenceGolden } = await import('./reference-golden.ts');
  const progress = ui.progress('computing the reference');
  try {
    const onProgress = (done: number, total: number) => {
      ui.io.signal.throwIfAborted();
      progress.update(done / total, `${done} of ${total} tokens`);
    };
    return await referenceGolden(directory, onProgress, functions);
  } finally {
    progress.end();
  }
}

/** The engine in the shape that verify scores. */
export function engineScorer(engine: Engine, signal: AbortSignal): Scorer {
  const { vocab } = engine;
  return {
    vocab,
    reset: () => engine.reset(0),
    score: (ids, first, onRows) =>
      engine.scoreRows(
        ids,
        first,
        (rows, token) => {
          for (let i = 0; i * vocab < rows.length; i++) {
            onRows(token + i, rows.subarray(i * vocab, (i + 1) * vocab));
          }
        },
        { signal },
      ),
    greedy: async (ids, n) => {
      const made: number[] = [];
      for await (const batch of engine.generate(ids, { maxTokens: n, signal })) made.push(...batch);
      signal.throwIfAborted();
      return made;
    },
  };
}
