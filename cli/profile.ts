// gen profile: where a token's time goes, by stage: waiting for weights, waiting for others, computing, storing.
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { OnelaunchError } from '../errors.ts';
import type { Summary } from '../lab/profile/summary.ts';
import type { BuiltKernel } from '../load.ts';
import { exitCode } from './errors.ts';
import { engineCommand, helpEnd, needModel, type Program } from './flags.ts';
import { buildWithProgress, kernelOptions, openWithProgress } from './load-kernel.ts';
import { engineOptions } from './reply.ts';
import { fixed, type Start, table, type Ui } from './ui.ts';
import { whole } from './values.ts';

export function addProfile(program: Program, start: Start): void {
  engineCommand(program, 'profile')
    .argument('[model]', 'the same as --model')
    .description('show where the time of a token goes: by stage, as a trace, as a timeline')
    .optionsGroup('Profile:')
    .option('--random-weights', 'random weights: no checkpoint needed')
    .option(
      '--position <n>',
      'tokens in the context of the first profiled one (default: 200)',
      whole('--position', 0, 16_777_215),
    )
    .option('--tokens <n>', 'profiled tokens', whole('--tokens', 1, 1000), 8)
    .option('--runs <n>', 'runs with and without profiling, in turns', whole('--runs', 1, 1000), 3)
    .option('--blocks <n>', 'blocks that trace and timeline show', whole('--blocks', 1, 1024), 8)
    .option('--trace <file>', 'write a trace for ui.perfetto.dev or chrome://tracing')
    .option('--html <file>', 'write a page with the timeline')
    .addHelpText(
      'after',
      helpEnd(
        'gen profile --model qwen3-tiny',
        'gen profile --model qwen3-0.6b --random-weights --html profile.html',
      ),
    )
    .action((word, options) =>
      start(options, async (ui) => {
        const model = needModel(options, 'profile', word);
        for (const flag of ['trace', 'html'] as const) needFolder(flag, options[flag]);
        const work = (dims: BuiltKernel['dims']) => fitWork(options.context ?? dims.maxPositions, options);
        const needs = {
          weights: options.randomWeights ? false : 'random',
          run: engineOptions(options),
          also: (checked: Pick<BuiltKernel, 'dims'>) => work(checked.dims),
        } as const;
        const asked = kernelOptions(model, options, ui);
        const plainKernel = await buildWithProgress(ui, asked, needs);
        const profiledKernel = await buildWithProgress(ui, { ...asked, profile: true }, needs);
        const { position, tokens, runs } = work(plainKernel.dims);
        const opened = {
          ...engineOptions(options),
          ...(options.randomWeights ? { randomWeights: { seed: 0 } } : {}),
          context: options.context ?? position + tokens + 2,
        };
        const lab = await import('../lab/profile/index.ts');
        const { engine: plain } = await openWithProgress(ui, plainKernel, opened);
        try {
          const { engine: profiled } = await openWithProgress(ui, profiledKernel, opened);
          try {
            const progress = ui.progress('profiling');
            const kernel = plainKernel.kernel.name;
            const profile = await lab
              .recordProfile(
                { kernel, plain, profiled },
                { position, tokens, runs },
                {
                  signal: ui.io.signal,
                  onRun: (run) =>
                    progress.update(
                      (run + 1) / (runs + 1),
                      run < 0 ? 'warm-up' : `run ${run + 1} of ${runs}`,
                    ),
                },
              )
              .finally(() => progress.end());
            tell(ui, lab, plainKernel, profile, options);
          } finally {
            profiled.close();
          }
        } finally {
          plain.close();
        }
        return exitCode.ok;
      }),
    );
}

type Lab = typeof import('../lab/profile/index.ts');

function tell(
  ui: Ui,
  lab: Lab,
  built: BuiltKernel,
  profile: Awaited<ReturnType<Lab['recordProfile']>>,
  options: {
    readonly trace?: string | undefined;
    readonly html?: string | undefined;
    readonly blocks: number;
  },
): void {
  const { schedule } = built.kernel;
  const summary = lab.summarize(
    profile.events,
    schedule.stages.map((stage) => stage.name),
  );
  const { events, overhead, ...about } = profile;
  if (ui.json) ui.result({ ...about, hash: built.kernel.hash, overhead, summary });
  else ui.data(profileTable(summary, lab.phases, lab.whatIsSeen(summary)));
  const [without, with_] = [overhead.without.median, overhead.with.median].map((value) => value.toFixed(1));
  ui.note(
    `${profile.kernel} on ${profile.device}: ${without} tok/s at position ${profile.position}, ${with_} while it is profiled (${profile.runs} runs in turns); profiling costs ${lab.costOf(overhead)}`,
  );
  if (profile.missed > 0) ui.warn(`${profile.missed} events found no room: ask for fewer --tokens`);
  const shown = lab.shownEvents(events, options.blocks);
  if (options.trace !== undefined) {
    const trace = lab.traceFile(lab.traceOf(schedule, shown), {
      kernel: profile.kernel,
      device: profile.device,
    });
    lab.writeText(options.trace, trace);
    ui.note(`trace: ${options.trace}, for https://ui.perfetto.dev`);
  }
  if (options.html !== undefined) {
    lab.writeText(options.html, lab.profilePage(schedule, profile, summary, lab.onePass(shown)));
    ui.note(`timeline: ${options.html}`);
  }
}

function profileTable(
  { stages, total, producer, blocks, positions }: Summary,
  phases: Lab['phases'],
  seen: string,
): string {
  const rows = stages.map((stage) => [
    ...[stage.stage, stage.visits, fixed(stage.total, 1), `${(100 * stage.share).toFixed(1)} %`],
    ...phases.map((phase) => fixed(stage.mean[phase], 1)),
    ...[fixed(stage.slowest.working, 1), stage.slowest.block],
  ]);
  const sums = phases.map((phase) =>
    fixed(
      stages.reduce((sum, stage) => sum + stage.mean[phase], 0),
      1,
    ),
  );
  const header = ['stage', 'visits', 'us', 'share', 'weights', 'others', 'compute', 'own warps', 'store'];
  return [
    table(
      [...header, 'slowest', 'block'],
      [...rows, ['all', null, fixed(total, 1), '100.0 %', ...sums, null, null]],
    ),
    '',
    `microseconds of a token, mean of ${blocks} blocks and ${positions.length} tokens: waits for weights, for other blocks, computes, waits for`,
    `warps of its own block, stores; slowest: the block that works longest, and what it works. ${seen}`,
    ...(producer
      ? [
          `The producer: ${fixed(producer.weights, 1)} us waiting for memory, ${fixed(producer.meet, 1)} for a free slot, ${fixed(producer.others, 1)} for the cache, ${fixed(producer.publish, 1)} starting copies.`,
        ]
      : []),
  ].join('\n');
}

interface AskedWork {
  readonly position?: number | undefined;
  readonly tokens: number;
  readonly runs: number;
}

/** The default position moves into a shorter context; one that was asked for must fit. */
function fitWork(context: number, asked: AskedWork) {
  const most = context - asked.tokens - 2;
  if (most < (asked.position ?? 0)) {
    const needed = (asked.position ?? 0) + asked.tokens + 2;
    throw new OnelaunchError('usage', `${needed} positions are needed, the context holds ${context}`, {
      hint: 'ask for a smaller --position or fewer --tokens',
    });
  }
  return { ...asked, position: asked.position ?? Math.min(200, most) };
}

/** What is measured for minutes must have a place to go to. */
function needFolder(flag: string, file: string | undefined): void {
  if (file === undefined || existsSync(dirname(resolve(file)))) return;
  throw new OnelaunchError('usage', `--${flag} is '${file}', and there is no folder ${dirname(file)}`, {
    hint: `for example: --${flag} profile.${flag === 'html' ? 'html' : 'json'}`,
  });
}
