// gen calibrate: measures this machine and writes its target file.
import { existsSync } from 'node:fs';
import type { ModelDims } from '../codegen/model/dims.ts';
import { platformOf, type Target } from '../codegen/schedule/target.ts';
import { OnelaunchError } from '../errors.ts';
import type { CalibrationModel } from '../lab/calibrate/calibrate.ts';
import type { CalibrationRecord } from '../lab/calibrate/record.ts';
import type { FittedPoint, FittedPrompt } from '../lab/calibrate/refit.ts';
import { exitCode } from './exit-code.ts';
import { flags, helpEnd, needNoOthers, outputCommand, type Program } from './flags.ts';
import { needApart, needWritable } from './output-file.ts';
import { fixed, type Start, table } from './ui.ts';
import { whole } from './values.ts';

export function addCalibrate(program: Program, start: Start): void {
  outputCommand(program, 'calibrate')
    .description(
      'measure bandwidth, barriers, words and stages of this machine, and write them to a target file: predictions rest on it',
    )
    .option(
      '--target <name|file>',
      'what to begin with (default: the GPU found here, where nvcc is too, else cpu)',
    )
    .option('--out <file>', 'the target file (default: NAME.target.json)')
    .option('--models <names>', 'models whose kernels are timed, on random weights (default: by the target)')
    .option(...flags.positions)
    .option('--tokens <n>', 'timed tokens of a reply', whole(1, 10_000), 64)
    .option('--runs <n>', 'replies of each kernel and position', whole(1, 1000), 3)
    .option('--refit <file>', 'measure nothing: make the target anew of what a calibration recorded')
    .option('--quick', 'few kernels, for a rough target')
    .option('--prompts', 'time prompts alone; replies stay as the record that is gone on from has them')
    .option('--no-delays', 'keep the poll delays of the target')
    .option(...flags.threads)
    .option(...flags.device)
    .addHelpText(
      'after',
      helpEnd('gen calibrate --out my-gpu.json', 'gen explain --model qwen3-0.6b --target my-gpu.json'),
    )
    .action((options, command) =>
      start(options, async (ui) => {
        const { measureTarget } = await import('../lab/calibrate/calibrate.ts');
        const { refit } = await import('../lab/calibrate/refit.ts');
        const { noiseOf } = await import('../lab/calibrate/noise.ts');
        const { readRecord } = await import('../lab/calibrate/record.ts');
        const { machineState, cpuName, usualPositions } = await import('../lab/measure.ts');
        const { writeText } = await import('../lab/write-text.ts');
        const { settleWeights } = await import('../codegen/settle-weights.ts');
        const { resolveModel, resolveTarget } = await import('../configs/resolve.ts');
        const { targetText } = await import('../configs/target-file.ts');
        const { checkDevice, tellThreads } = await import('../codegen/build/can-run.ts');
        const { needOutputRoot } = await import('../codegen/build/output-root.ts');
        const { findGpus } = await import('../codegen/build/gpus.ts');
        if (options.refit !== undefined) needNoOthers(command, '--refit', ['--refit', '--target', '--out']);
        const from = resolveTarget(options.target, findGpus, options.device);
        const out = options.out ?? `${from.name}.target.json`;
        needWritable('out', out, 'my-machine.json');
        needApart(['--out', out], [['--refit', options.refit]]);
        if (!out.endsWith('.json')) {
          throw new OnelaunchError(
            'usage',
            `--out is '${out}', must be a .json file: --target takes no other`,
            {
              hint: `for example: --out ${out.replace(/\.[^./]*$/, '')}.json`,
            },
          );
        }
        const write = (record: CalibrationRecord, source: string) => {
          const { target, points, prompts } = refit(from, record);
          const noise = noiseOf(record);
          writeText(out, targetText(target));
          if (ui.json) ui.result({ target, points, prompts, figures: record.figures, noise, out });
          else ui.data(tables(points, prompts));
          if (noise.length > 0) {
            const again = `measure again while nothing else runs, without ${source}, which calibrations go on from`;
            ui.warn(
              `the machine was not steady (${noise.join('; ')}): predictions by ${out} are no better; ${again}`,
            );
          }
          ui.note(`${out}: --target ${out} takes it`);
          return exitCode.ok;
        };
        if (options.refit !== undefined) return write(readRecord(options.refit), options.refit);
        if (options.prompts && !platformOf(from).streams) {
          throw new OnelaunchError(
            'usage',
            `--prompts times launches of prompts, and ${from.name} has none`,
            {
              hint: 'leave it out: gen calibrate times replies',
            },
          );
        }
        const isGpu = from.kind === 'cuda';
        const ordinal = options.device ?? 0;
        checkDevice(from, ordinal, findGpus);
        needOutputRoot();
        for (const note of tellThreads(from, options.threads, options.target)) ui.warn(note);
        const names = options.models && [...new Set(options.models.split(','))];
        const wanted = names ? names.map((name): CalibrationModel => ({ name })) : modelsFor[from.kind];
        const models = wanted.map((one) => ({
          ...one,
          dims: settleWeights(resolveModel(one.name).dims, one.weights),
        }));
        if (!options.prompts) {
          const dims = models.map((one) => one.dims);
          for (const note of tellCut(dims, options)) ui.warn(note);
        }
        const state = machineState(isGpu ? ordinal : null);
        const device =
          state.kind === 'cuda'
            ? `${state.name}, driver ${state.driver}`
            : `${cpuName()}, ${options.threads ?? 'as many threads as cores'}`;
        const recorded = out.replace(/(\.json)?$/, '.points.json');
        const keep = (record: CalibrationRecord) => writeText(recorded, `${JSON.stringify(record)}\n`);
        const found = existsSync(recorded) ? readRecord(recorded) : null;
        const asked = { device, tokens: options.tokens };
        const before = found && isOf(found, asked) ? found : null;
        if (options.prompts) needReplies(recorded, found, asked);
        if (before) ui.note(`goes on from ${recorded}: ${before.points.length} figures are there`);
        else if (found) ui.note(`${recorded} is measured anew: it was of ${measured(found)}`);
        const progress = ui.progress('calibrating');
        const record = await measureTarget(from, {
          ...{ models, device: ordinal, threads: options.threads, signal: ui.io.signal },
          positions: options.positions ?? usualPositions(),
          ...{ tokens: options.tokens, replies: options.runs, seeksDelays: options.delays },
          isQuick: options.quick ?? false,
          onlyPrompts: options.prompts ?? false,
          ...{ date: new Date().toISOString().slice(0, 10), deviceName: device, before },
          onRecord: keep,
          onLine: progress.log,
          onProgress: progress.update,
        })
          .finally(progress.end)
          .catch((error: unknown) => {
            if (ui.io.signal.aborted && existsSync(recorded))
              ui.note(`what was measured is in ${recorded}: the same command goes on from there`);
            throw error;
          });
        ui.note(`${recorded}: what was measured, for --refit`);
        return write(record, recorded);
      }),
    );
}

/** What is told of positions that were asked for and that a model has not.
 *  @throws OnelaunchError of kind usage for more tokens than a model has positions for */
export function tellCut(
  models: readonly Pick<ModelDims, 'name' | 'maxPositions'>[],
  { positions = [], tokens }: { readonly positions?: readonly number[] | undefined; readonly tokens: number },
): readonly string[] {
  return models.flatMap(({ name, maxPositions }) => {
    const last = maxPositions - tokens - 1;
    if (last < 1) {
      const text = `${tokens} tokens are more than ${name} has positions for, which are ${maxPositions}`;
      throw new OnelaunchError('usage', text, { hint: `ask for at most --tokens ${maxPositions - 2}` });
    }
    const cut = positions.filter((position) => position > last);
    const timed = `${cut.join(' and ')} ${cut.length === 1 ? 'is' : 'are'} timed at ${last}`;
    return cut.length === 0 ? [] : [`${name} has ${maxPositions} positions: ${timed}`];
  });
}

type Measured = Pick<CalibrationRecord, 'device' | 'tokens'>;
const isOf = (found: Measured, asked: Measured) =>
  found.device === asked.device && found.tokens === asked.tokens;
const measured = ({ device, tokens }: Measured) => `${device}, ${tokens} tokens a reply`;

/** Terms of replies are fitted to what was timed of them: without it a target would have none.
 *  @throws OnelaunchError of kind usage: there is no such record, or it is of another machine, of other replies, or of none */
export function needReplies(path: string, found: CalibrationRecord | null, asked: Measured): void {
  if (found !== null && isOf(found, asked) && found.points.length > 0) return;
  const why =
    found === null
      ? 'is not there'
      : isOf(found, asked)
        ? 'has no timed replies'
        : `is of ${measured(found)}`;
  throw new OnelaunchError('usage', `--prompts keeps the replies of a record, and ${path} ${why}`, {
    hint: 'leave --prompts out, and both are timed; --out FILE goes on from the record beside FILE',
  });
}

/** What is timed where nobody says which: large and small, and on a GPU how a stream grows. */
const modelsFor: Readonly<Record<Target['kind'], readonly CalibrationModel[]>> = {
  cuda: [
    ...['qwen3-0.6b', 'smollm2-135m', 'qwen2.5-0.5b', 'llama-3.2-1b', 'qwen3-1.7b'].map((name) => ({ name })),
    { name: 'qwen3-1.7b', weights: 'int4' },
  ],
  cpu: [{ name: 'smollm2-135m' }, { name: 'qwen3-tiny' }],
};

/** Measured beside predicted by the terms that were fitted. */
function tables(points: readonly FittedPoint[], prompts: readonly FittedPrompt[]): string {
  const off = (error: number) => `${(100 * error).toFixed(1)} %`;
  const replies = points.map(({ model, weights = '', plan, position, tokensPerSecond, error }) => [
    ...[`${model} ${weights}`.trimEnd(), plan, position, fixed(tokensPerSecond.median, 1)],
    ...[fixed(tokensPerSecond.median / (1 + error), 1), off(error)],
  ]);
  const taken = prompts.map(({ model, plan, tokens, millis, error }) => [
    ...[model, plan, tokens, fixed(millis.median, 3)],
    ...[fixed(millis.median * (1 + error), 3), off(error)],
  ]);
  return [
    ...withinText(['model', 'plan', 'at', 'tok/s', 'predicted', 'time off by'], replies, points),
    ...withinText(['model', 'plan', 'prompt', 'ms', 'predicted', 'off by'], taken, prompts),
  ].join('\n\n');
}

/** A table, and what is within how much; nothing of nothing. */
function withinText(
  header: readonly string[],
  rows: readonly (readonly (string | number | null)[])[],
  fitted: readonly { readonly error: number }[],
): string[] {
  if (rows.length === 0) return [];
  const off = fitted.map(({ error }) => Math.abs(error)).sort((a, b) => a - b);
  const within = (share: number) =>
    (100 * off[Math.min(off.length - 1, Math.ceil(off.length * share) - 1)]!).toFixed(1);
  return [
    table(header, rows),
    `half of ${off.length} figures are predicted within ${within(0.5)} %, 90 % within ${within(0.9)} %`,
  ];
}
