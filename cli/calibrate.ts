// gen calibrate: measures this machine and writes its target file.
import { writeFileSync } from 'node:fs';
import { exitCode } from './errors.ts';
import { helpEnd, outputCommand, type Program } from './flags.ts';
import { fixed, type Start, table } from './ui.ts';
import { whole, wholes } from './values.ts';

export function addCalibrate(program: Program, start: Start): void {
  outputCommand(program, 'calibrate')
    .description(
      'measure bandwidth, barriers, words and stages of this machine, and write them to a target file: predictions rest on it',
    )
    .option('--target <name|file>', 'what to begin with (default: the GPU found here, else cpu)')
    .option('--out <file>', 'the target file (default: NAME.target.json)')
    .option('--models <names>', 'models whose kernels are timed, on random weights (default: by the target)')
    .option(
      '--positions <list>',
      'tokens in the context (default: 1,200,1900)',
      wholes('--positions', 1, 100_000),
    )
    .option('--tokens <n>', 'timed tokens of a reply', whole('--tokens', 1, 10_000), 64)
    .option('--runs <n>', 'replies of each kernel and position', whole('--runs', 1, 1000), 3)
    .option('--no-delays', 'keep the poll delays of the target')
    .option('--threads <n>', 'CPU threads (default: physical cores)', whole('--threads', 1, 1024))
    .option('--device <n>', 'GPU ordinal', whole('--device', 0, 1023), 0)
    .addHelpText(
      'after',
      helpEnd('gen calibrate --out my-gpu.json', 'gen explain --model qwen3-0.6b --target my-gpu.json'),
    )
    .action((options) =>
      start(options, async (ui) => {
        const { calibrate } = await import('../lab/calibrate/calibrate.ts');
        const { machineState, cpuName } = await import('../lab/measure.ts');
        const { resolveModel, resolveTarget } = await import('../configs/resolve.ts');
        const { targetText } = await import('../configs/target-file.ts');
        const { checkDevice } = await import('../codegen/build/can-run.ts');
        const { findGpus } = await import('../codegen/build/tools.ts');
        const from = resolveTarget(options.target);
        const isGpu = from.kind === 'cuda';
        checkDevice(from, options.device, findGpus);
        const names =
          options.models?.split(',') ??
          (isGpu ? ['qwen3-0.6b', 'smollm2-135m'] : ['smollm2-135m', 'qwen3-tiny']);
        const models = names.map((name) => resolveModel(name).dims);
        const out = options.out ?? `${from.name}.target.json`;
        const before = machineState(isGpu ? options.device : null);
        const day = new Date().toISOString().slice(0, 10);
        const device =
          before.kind === 'cuda'
            ? `${before.name}, driver ${before.driver}, ${before.smClock} MHz SM, ${before.memoryClock} MHz memory`
            : `${cpuName()}, ${options.threads ?? 'physical cores as'} threads`;
        const progress = ui.progress('calibrating');
        const calibration = await calibrate(from, {
          ...{ models, device: options.device, threads: options.threads, signal: ui.io.signal },
          positions: options.positions ?? [1, 200, 1900],
          ...{ tokens: options.tokens, replies: options.runs, seeksDelays: options.delays },
          origin: `gen calibrate, ${day}, ${device}`,
          onLine: progress.log,
          onProgress: progress.update,
        }).finally(progress.end);
        writeFileSync(out, targetText(calibration.target));
        const after = machineState(isGpu ? options.device : null);
        if (ui.json) ui.result({ ...calibration, machine: { before, after }, out });
        else ui.data(pointsTable(calibration.points));
        ui.note(`${out}: --target ${out} takes it`);
        return exitCode.ok;
      }),
    );
}

type Points = Awaited<ReturnType<typeof import('../lab/calibrate/calibrate.ts').calibrate>>['points'];

/** Measured beside predicted by the terms that were fitted. */
function pointsTable(points: Points): string {
  const rows = points.map(({ model, plan, position, tokensPerSecond, error }) => [
    ...[model, plan, position, fixed(tokensPerSecond.median, 1)],
    fixed(tokensPerSecond.median / (1 + error), 1),
    `${(100 * error).toFixed(1)} %`,
  ]);
  const off = points.map(({ error }) => Math.abs(error)).sort((a, b) => a - b);
  const within = (share: number) =>
    (100 * off[Math.min(off.length - 1, Math.ceil(off.length * share) - 1)]!).toFixed(1);
  return [
    table(['model', 'plan', 'at', 'tok/s', 'predicted', 'time off by'], rows),
    '',
    `half of ${off.length} figures are predicted within ${within(0.5)} %, 90 % within ${within(0.9)} %`,
  ].join('\n');
}
