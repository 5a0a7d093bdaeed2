// gen profile: where the time of a token, of a pass of several sequences, or of a prompt's launch, goes by stage: waiting for weights, waiting for others, computing, storing.
import type { Kernel } from '../codegen/index.ts';
import { OnelaunchError } from '../errors.ts';
import type { Profile } from '../lab/profile/record.ts';
import type { BuiltKernel, KernelOptions } from '../load.ts';
import type { Needs } from '../preflight.ts';
import { mostSequences } from '../runtime/engine/limits.ts';
import { exitCode } from './exit-code.ts';
import { engineCommand, flags, helpEnd, needBeside, needModel, type Program } from './flags.ts';
import { buildWithProgress, kernelOptions, openWithProgress } from './load-kernel.ts';
import { needApart, needWritable } from './output-file.ts';
import { launchTable, tokenTable } from './profile-table.ts';
import { engineOptions } from './reply.ts';
import { counted, type Start, type Ui } from './ui.ts';
import { mostPositions, whole } from './values.ts';

export function addProfile(program: Program, start: Start): void {
  engineCommand(program, 'profile')
    .argument('[model]', 'the same as --model')
    .description('show where the time of a token, or of a prompt, goes: by stage, as a trace, as a timeline')
    .optionsGroup('Profile:')
    .option(...flags.randomWeights)
    .option(
      '--position <n>',
      'tokens in the context of the first profiled one (default: 200)',
      whole(0, mostPositions - 1),
    )
    .option('--tokens <n>', 'profiled tokens (default: 8)', whole(1, 1000))
    .option(
      '--sequences <n>',
      'so many sequences at once, each with a token in every pass',
      whole(1, mostSequences),
    )
    .option(
      '--prompt <n>',
      'in their place a launch of a prompt of so many tokens, where those have launches of their own',
      whole(1, mostPositions),
    )
    .option('--launch <n>', 'which launch of it, from 1 on (default: the last)', whole(1, 1_000_000))
    .option('--runs <n>', 'runs with and without profiling, in turns', whole(1, 1000), 3)
    .option('--blocks <n>', 'blocks that trace and timeline show', whole(1, 1024), 8)
    .option('--trace <file>', 'write a trace for ui.perfetto.dev or chrome://tracing')
    .option('--html <file>', 'write a page with the timeline')
    .addHelpText(
      'after',
      helpEnd(
        'gen profile --model qwen3-tiny',
        'gen profile --model qwen3-0.6b --random-weights --html profile.html',
        'gen profile --model qwen3-tiny --sequences 4',
        'gen profile --model qwen3-0.6b --target h100 --prompt 1000',
      ),
    )
    .action((word, options, command) =>
      start(options, async (ui) => {
        const model = needModel(options, 'profile', word);
        // What is measured for minutes must have a place to go to.
        needWritable('trace', options.trace, 'profile.json');
        needWritable('html', options.html, 'profile.html');
        needApart(['--trace', options.trace], [['--html', options.html]]);
        checkPrompt(options);
        const isDrawn = options.trace !== undefined || options.html !== undefined;
        needBeside(command, '--blocks', { is: isDrawn, other: '--trace or --html' });
        const lab = await import('../lab/profile/index.ts');
        const workFor = ({ maxPositions }: BuiltKernel['dims']) =>
          fitWork(options.context ?? maxPositions, options, lab);
        const { prompt, sequences = 1 } = options;
        const needs = {
          weights: options.randomWeights ? false : 'random',
          run: { ...engineOptions(options), sequences },
          also: (checked: Pick<BuiltKernel, 'dims'>) => workFor(checked.dims),
        } as const;
        const asked = kernelOptions(model, options, ui);
        const launch =
          prompt === undefined ? null : lab.launchOf(await kernelOf(asked, needs), prompt, options.launch);
        const plainKernel = await buildWithProgress(ui, asked, needs);
        const profiledKernel = await buildWithProgress(ui, { ...asked, profile: true }, needs);
        const { positions, ...work } = workFor(plainKernel.dims);
        const opened = {
          ...engineOptions(options),
          sequences,
          ...(options.randomWeights ? { randomWeights: { seed: 0 } } : {}),
          context: options.context ?? positions,
        };
        const { engine: plain } = await openWithProgress(ui, plainKernel, opened);
        try {
          const { engine: profiled } = await openWithProgress(ui, profiledKernel, opened);
          try {
            const progress = ui.progress('profiling');
            const { runs } = work;
            const pair = { kernel: plainKernel.kernel.name, plain, profiled };
            const control = {
              signal: ui.io.signal,
              onRun: (run: number) =>
                progress.update((run + 1) / (runs + 1), run < 0 ? 'warm-up' : `run ${run + 1} of ${runs}`),
            };
            const recorded = launch
              ? lab.recordLaunch(pair, { ...launch, runs }, control)
              : sequences > 1
                ? lab.recordRows(pair, { ...work, sequences }, control)
                : lab.recordProfile(pair, work, control);
            const profile = await recorded.finally(() => progress.end());
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

/** The kernel as it is to be built: which launches a prompt has is known before anything is compiled. */
async function kernelOf(asked: KernelOptions, needs: Needs): Promise<Kernel> {
  const [{ preflight }, { generate }] = await Promise.all([
    import('../preflight.ts'),
    import('../codegen/index.ts'),
  ]);
  return generate(await preflight(asked, needs));
}

type Lab = typeof import('../lab/profile/index.ts');

function tell(
  ui: Ui,
  lab: Lab,
  { kernel: { schedule: decoding, prompts, hash } }: BuiltKernel,
  profile: Profile,
  options: {
    readonly trace?: string | undefined;
    readonly html?: string | undefined;
    readonly blocks: number;
  },
): void {
  const { launch } = profile;
  const schedule = launch ? prompts!.schedule : decoding;
  const { events, overhead, ...about } = profile;
  const summary = lab.summarize(
    events,
    schedule.stages.map((stage) => stage.name),
  );
  const figures = launch ? lab.figuresOf(summary, schedule, { ...profile, launch }) : undefined;
  const seen = lab.whatIsSeen(summary, launch !== null);
  if (ui.json) ui.result({ ...about, hash, overhead, summary, ...(figures && { figures }) });
  else if (launch && figures)
    ui.data(launchTable(summary, figures, { launch: lab.launchText({ ...about, launch }), seen }));
  else ui.data(tokenTable(summary, lab.phases, { what: lab.passText(profile.sequences), seen }));
  const [without, with_] = [overhead.without.median, overhead.with.median].map((value) => value.toFixed(1));
  const where = launch
    ? lab.launchText({ ...about, launch })
    : `${profile.sequences === 1 ? '' : `of ${profile.sequences} sequences `}at position ${profile.position}`;
  ui.note(
    `${profile.kernel} on ${profile.device}: ${without} tok/s ${launch ? 'of ' : ''}${where}, ${with_} while ${launch ? 'they are' : 'it is'} profiled (${counted(profile.runs, 'run')} in turns); profiling costs ${lab.costOf(overhead)}`,
  );
  if (profile.missed > 0) {
    const { length } = summary.positions;
    ui.warn(
      launch
        ? `${counted(profile.missed, 'event')} found no room: the figures are of the others`
        : `room was for ${length} of ${profile.tokens} passes: the figures are theirs`,
    );
  }
  const shown = lab.shownEvents(events, options.blocks);
  if (options.trace !== undefined) {
    const names = launch ? lab.launchPhaseNames : lab.phaseNames;
    const trace = lab.traceFile(lab.traceOf(schedule, shown, names), {
      kernel: profile.kernel,
      device: profile.device,
    });
    lab.writeText(options.trace, trace);
    ui.note(`trace: ${options.trace}, for https://ui.perfetto.dev`);
  }
  if (options.html !== undefined) {
    const drawn = { shown: lab.onePass(shown), figures };
    lab.writeText(options.html, lab.profilePage(schedule, profile, summary, drawn));
    ui.note(`timeline: ${options.html}`);
  }
}

interface AskedWork {
  readonly position?: number | undefined;
  readonly tokens?: number | undefined;
  readonly prompt?: number | undefined;
  readonly sequences?: number | undefined;
  readonly runs: number;
}

/** @throws OnelaunchError usage for flags that say nothing of what is asked for, or that are missing */
function checkPrompt(options: AskedWork & { readonly launch?: number | undefined }): void {
  const refused = (text: string, hint: string) => new OnelaunchError('usage', text, { hint });
  if (options.prompt === undefined) {
    if (options.launch === undefined) return;
    throw refused(
      '--launch is given, and no --prompt',
      `for example: --prompt 3000 --launch ${options.launch}`,
    );
  }
  const other = (['position', 'tokens', 'sequences'] as const).find((flag) => options[flag] !== undefined);
  if (!other) return;
  const hint = 'a prompt is profiled launch by launch: --launch says which';
  throw refused(`--prompt and --${other} are both given`, hint);
}

/** The work, and the positions that it needs. The default position moves into a shorter context; one that was asked for must fit.
 *  @param lab knows the tokens that are made behind a profiled launch, to compare, and those beside several sequences' profiled ones */
function fitWork(context: number, asked: AskedWork, lab: Pick<Lab, 'checkedTokens' | 'rowPositions'>) {
  const { runs, prompt, tokens = 8, sequences = 1 } = asked;
  const refused = (needed: number, hint: string) =>
    new OnelaunchError('usage', `${needed} positions are needed, the context holds ${context}`, { hint });
  if (prompt !== undefined) {
    if (prompt > context) throw refused(prompt, 'ask for a shorter --prompt');
    return { position: 0, tokens: prompt, runs, positions: Math.min(context, prompt + lab.checkedTokens) };
  }
  const room = sequences === 1 ? tokens + 2 : lab.rowPositions({ position: 0, tokens }, sequences);
  const most = context - room;
  if (most < (asked.position ?? 0))
    throw refused((asked.position ?? 0) + room, 'ask for a smaller --position or fewer --tokens');
  const position = asked.position ?? Math.min(200, most);
  return { position, tokens, runs, positions: position + room };
}
