// gen bench: decode and prefill speed by position, with the state of the machine and a hash of the tokens.
import { OnelaunchError } from '../errors.ts';
import { fillSequences } from '../lab/batch.ts';
import { breathe } from '../lab/breathe.ts';
import { wholeReply } from '../lab/decode.ts';
import {
  cpuName,
  type MachineState,
  machineState,
  promptOf,
  type Spread,
  spreadOf,
  tokensHash,
  usualPositions,
} from '../lab/measure.ts';
import type { Quality } from '../lab/quality.ts';
import type { BuiltKernel } from '../load.ts';
import type { Engine } from '../runtime/engine/engine.ts';
import { mostSequences } from '../runtime/engine/limits.ts';
import type { Speculate } from '../runtime/engine/options.ts';
import { exitCode } from './exit-code.ts';
import { draftedCommand, flags, helpEnd, needModel, needNoOthers, noUse, type Program } from './flags.ts';
import { buildWithProgress, draftOf, kernelOptions, openWithProgress } from './load-kernel.ts';
import { engineOptions } from './reply.ts';
import { counted, fixed, type Start, table, type Ui } from './ui.ts';
import { mostPositions, whole, wholes } from './values.ts';

interface DecodeFigure {
  /** Tokens in the KV cache when the first one is timed. */
  readonly position: number;
  readonly tokensPerSecond: Spread;
  /** Bytes that a pass reads, weights and KV, times passes a second, of runs without drafts. */
  readonly gigabytesPerSecond: number;
  /** Of the target's bandwidth; null where that is not known. */
  readonly share: number | null;
  readonly tokensHash: string;
  /** Energy of the GPU, of decoding alone; null on a CPU, and where the driver does not count it. */
  readonly tokensPerJoule: number | null;
  /** Where a model drafts. */
  readonly drafts?: DraftFigure;
}

interface DraftFigure {
  /** Of all runs: tokens drafted, and those of them that were right. */
  readonly drafted: number;
  readonly accepted: number;
  /** The same without drafts, each run behind one with them. */
  readonly plainTokensPerSecond: Spread;
  /** How many times as fast drafts made it, run by run. */
  readonly gain: Spread;
}

interface BatchFigure {
  readonly sequences: number;
  readonly position: number;
  /** Of all together. */
  readonly tokensPerSecond: Spread;
}

interface BenchResult {
  readonly kernel: string;
  /** What took in prompts; null: passes of the plan that decodes. */
  readonly promptPlan: string | null;
  readonly device: string;
  readonly weights: string;
  /** Timed tokens of a run. */
  readonly tokens: number;
  readonly runs: number;
  readonly decode: readonly DecodeFigure[];
  /** Several sequences at once, at the last position. */
  readonly batches: readonly BatchFigure[];
  readonly prefill: { readonly tokens: number; readonly tokensPerSecond: Spread } | null;
  readonly machine: {
    readonly cpu: string;
    readonly before: MachineState;
    readonly after: MachineState;
    /** Longest step of the energy counter [ms]; null where there is none. */
    readonly energyResolutionMs: number | null;
  };
}

export function addBench(program: Program, start: Start): void {
  draftedCommand(program, 'bench')
    .argument('[model]', 'the same as --model')
    .description('measure decode tokens a second by position, bytes a second, and prefill')
    .optionsGroup('Bench:')
    .option(...flags.randomWeights)
    .option(...flags.positions)
    .option('--tokens <n>', 'timed tokens of a run', whole(1, 100_000), 100)
    .option('--prompt <n>', 'tokens of the prefill; 0: none (default: 512)', whole(0, mostPositions))
    .option(
      '--sequences <list>',
      `also so many sequences at once, up to ${mostSequences}, at the last position: tokens a second of all together`,
      wholes(1, mostSequences),
    )
    .option('--runs <n>', 'runs of each figure, interleaved', whole(1, 1000), 5)
    .option(...flags.report)
    .option('--reports', 'list bench/reports, and which figures are of other sources than today')
    .addHelpText(
      'after',
      helpEnd(
        'gen bench --model qwen3-0.6b --random-weights',
        'gen bench --model qwen3-tiny --positions 1,500 --json',
      ),
    )
    .action((word, options, command) =>
      start(options, async (ui) => {
        if (options.reports) {
          needNoOthers(command, '--reports', ['--reports']);
          if (word !== undefined) throw noUse('--reports', word);
          return await listReports(ui);
        }
        const model = needModel(options, 'bench', word);
        if (options.report) (await import('./report-file.ts')).needReports();
        const workFor = ({ dims }: Pick<BuiltKernel, 'dims'>) =>
          fitWork(options.context ?? dims.maxPositions, options);
        const random = options.randomWeights ? { randomWeights: { seed: 0 } } : {};
        const settings = { ...engineOptions(options), ...random, target: options.target };
        const draft = await draftOf(ui, options, settings);
        const built = await buildWithProgress(
          ui,
          { ...kernelOptions(model, options, ui), onChecked: draft.check },
          {
            weights: options.randomWeights ? false : 'random',
            ...(options.draft !== undefined && { tokenizer: 'optional' }),
            run: { ...engineOptions(options), sequences: Math.max(1, ...(options.sequences ?? [])) },
            also: workFor,
          },
        );
        const work = workFor(built);
        const { engine } = await openWithProgress(ui, built, {
          ...engineOptions(options),
          ...random,
          sequences: Math.max(1, ...work.sequences),
          context: options.context ?? Math.max(work.prompt, ...work.positions) + work.tokens + 1,
        });
        let result: BenchResult;
        try {
          await draft.open(built, engine);
          const weights = options.randomWeights ? 'random, seed 0' : 'checkpoint';
          const gpu = built.target.kind === 'cuda' ? (options.device ?? 0) : null;
          result = await measure(ui, built, engine, { ...work, gpu, weights });
        } finally {
          engine.close();
        }
        if (ui.json) ui.result({ ...result, hash: built.kernel.hash });
        else ui.data(benchTable(result));
        if (options.report) {
          const { writeReport } = await import('./report-file.ts');
          ui.note(`report: ${writeReport(built.kernel, { bench: result })}`);
        }
        return exitCode.ok;
      }),
    );
}

interface Work {
  readonly positions: readonly number[];
  readonly tokens: number;
  readonly prompt: number;
  readonly sequences: readonly number[];
  readonly runs: number;
}

/** Default positions and prompt move into a shorter context; those that were asked for must fit. */
function fitWork(
  context: number,
  asked: Omit<Work, 'positions' | 'prompt' | 'sequences'> & {
    readonly sequences?: readonly number[] | undefined;
    readonly positions?: readonly number[] | undefined;
    readonly prompt?: number | undefined;
  },
): Work {
  const most = context - asked.tokens - 1;
  const needed = Math.max(asked.prompt ?? 0, ...(asked.positions ?? [1])) + asked.tokens + 1;
  if (needed > context) {
    throw new OnelaunchError('usage', `${needed} positions are needed, the context holds ${context}`, {
      hint: 'ask for a smaller --positions, --prompt or --tokens',
    });
  }
  const positions = asked.positions ?? usualPositions(most);
  return {
    ...asked,
    positions,
    prompt: asked.prompt ?? Math.min(512, most),
    sequences: asked.sequences ?? [],
  };
}

/** One round that is thrown away, then the runs, each position in turn, so that a slow minute falls on all of them. */
async function measure(
  ui: Ui,
  built: BuiltKernel,
  engine: Engine,
  work: Work & { readonly gpu: number | null; readonly weights: string },
): Promise<BenchResult> {
  const { positions, tokens, prompt, sequences, runs, gpu, weights } = work;
  const { signal } = ui.io;
  const progress = ui.progress('measuring');
  const rates: number[][] = positions.map(() => []);
  const plain: number[][] = positions.map(() => []);
  const drafts = positions.map(() => ({ drafted: 0, accepted: 0 }));
  const hashes: string[] = [];
  const prefills: number[] = [];
  const batches: number[][] = sequences.map(() => []);
  const steps = (runs + 1) * (positions.length + (prompt > 0 ? 1 : 0) + sequences.length);
  let step = 0;
  const decode = (
    position: number,
    maxTokens: number,
    speculate: Speculate = engine.drafts ? 'auto' : 'off',
  ) => {
    engine.reset(0);
    return wholeReply(engine, promptOf(position, engine.vocab), maxTokens, signal, speculate);
  };
  const { energyOf, openEnergyCounter } = await import('../lab/power.ts');
  const { smiIdOf } = await import('../codegen/build/gpus.ts');
  const counter = gpu === null ? null : openEnergyCounter(smiIdOf(gpu));
  const tokensPerJoule: (number | null)[] = [];
  let before = machineState(gpu);
  let after = before;
  try {
    for (let run = -1; run < runs; run++) {
      if (run === 0) before = machineState(gpu);
      for (const [index, position] of positions.entries()) {
        progress.update(
          step++ / steps,
          run < 0 ? 'warm-up' : `run ${run + 1} of ${runs}, position ${position}`,
        );
        const { made, decodeMs, drafted, accepted } = await decode(position, tokens + 1);
        const undrafted = engine.drafts ? await decode(position, tokens + 1, 'off') : null;
        const hash = tokensHash(made);
        hashes[index] ??= hash;
        if (hash !== hashes[index]) {
          throw new OnelaunchError('failed', `two runs at position ${position} made different tokens`, {
            hint: 'a kernel gives the same tokens each time: see what gen verify says',
          });
        }
        if (run < 0) continue;
        rates[index]!.push(tokens / (decodeMs / 1000));
        drafts[index]!.drafted += drafted;
        drafts[index]!.accepted += accepted;
        if (undrafted) plain[index]!.push(tokens / (undrafted.decodeMs / 1000));
      }
      if (prompt > 0) {
        progress.update(step++ / steps, run < 0 ? 'warm-up' : `run ${run + 1} of ${runs}, prefill`);
        const { prefillMs } = await decode(prompt, 1);
        if (run >= 0) prefills.push(prompt / (prefillMs / 1000));
      }
      for (const [index, count] of sequences.entries()) {
        progress.update(
          step++ / steps,
          run < 0 ? 'warm-up' : `run ${run + 1} of ${runs}, ${count} sequences`,
        );
        engine.reset(0); // its own gives way
        const filled = await fillSequences(engine, count, positions.at(-1)!, signal);
        const rate = await filled.rate(tokens);
        await filled.close();
        if (run >= 0) batches[index]!.push(rate);
      }
    }
    after = machineState(gpu);
    for (const position of counter ? positions : []) {
      progress.update(1, `energy, position ${position}`);
      // What the prompt takes is measured apart, and taken off.
      const whole = await energyOf(counter!, () => decode(position, tokens + 1));
      const begin = await energyOf(counter!, () => decode(position, 1));
      const joules = whole.joules - begin.joules;
      tokensPerJoule.push(joules > 0 ? tokens / joules : null);
    }
  } finally {
    progress.end();
  }
  const { bytes, bandwidth } = built.manifest;
  return {
    kernel: built.kernel.name,
    promptPlan: built.manifest.promptPlan,
    device: engine.device,
    ...{ weights, tokens, runs },
    decode: positions.map((position, index) => {
      const tokensPerSecond = spreadOf(rates[index]!);
      // The positions that an average pass of the run reads.
      const perPass = bytes.weights + bytes.kvPerPosition * (position + (tokens + 1) / 2);
      const plainTokensPerSecond = engine.drafts ? spreadOf(plain[index]!) : tokensPerSecond;
      const gigabytesPerSecond = (perPass * plainTokensPerSecond.median) / 1e9;
      const gains = plain[index]!.map((rate, run) => rates[index]![run]! / rate);
      const share = bandwidth === null ? null : gigabytesPerSecond / bandwidth;
      return {
        position,
        tokensPerSecond,
        gigabytesPerSecond,
        share,
        tokensHash: hashes[index]!,
        tokensPerJoule: tokensPerJoule[index] ?? null,
        ...(engine.drafts && { drafts: { ...drafts[index]!, plainTokensPerSecond, gain: spreadOf(gains) } }),
      };
    }),
    batches: sequences.map((count, index) => ({
      sequences: count,
      position: positions.at(-1)!,
      tokensPerSecond: spreadOf(batches[index]!),
    })),
    prefill: prompt > 0 ? { tokens: prompt, tokensPerSecond: spreadOf(prefills) } : null,
    machine: { cpu: cpuName(), before, after, energyResolutionMs: counter?.resolutionMs ?? null },
  };
}

function benchTable(result: BenchResult): string {
  const percent = (share: number | null) => (share === null ? null : `${(100 * share).toFixed(1)} %`);
  const rows = result.decode.map(({ position, tokensPerSecond: rate, ...figure }) => [
    ...['decode', position, fixed(rate.median, 1), fixed(rate.least, 1), fixed(rate.most, 1)],
    ...[fixed(figure.gigabytesPerSecond, 2), percent(figure.share), fixed(figure.tokensPerJoule, 2)],
    figure.tokensHash,
  ]);
  if (result.prefill) {
    const { tokens, tokensPerSecond: rate } = result.prefill;
    rows.push([
      'prefill',
      tokens,
      fixed(rate.median, 1),
      fixed(rate.least, 1),
      fixed(rate.most, 1),
      ...[null, null, null, ''],
    ]);
  }
  for (const { sequences, position, tokensPerSecond: rate } of result.batches) {
    rows.push([
      counted(sequences, 'sequence'),
      ...[position, fixed(rate.median, 1), fixed(rate.least, 1), fixed(rate.most, 1)],
      ...[null, null, null, ''],
    ]);
  }
  const { before, after, energyResolutionMs } = result.machine;
  const state = (one: MachineState) =>
    one.kind === 'cpu'
      ? `load ${one.load1}`
      : `${one.smClock} MHz SM, ${one.memoryClock} MHz memory, throttle ${one.throttleReasons}`;
  return [
    table(['', 'at', 'tok/s', 'least', 'most', 'GB/s', 'of bandwidth', 'tok/J', 'tokens'], rows),
    '',
    `${result.kernel} on ${result.device}${result.promptPlan === null ? '' : `, prompts by ${result.promptPlan}`}; ${result.weights} weights; ${counted(result.tokens, 'token')}, median of ${counted(result.runs, 'run')}`,
    ...result.decode.flatMap(({ position, drafts }) => (drafts ? [draftLine(position, drafts)] : [])),
    `before: ${state(before)}; after: ${state(after)}`,
    ...(energyResolutionMs === null
      ? []
      : [
          `energy of the GPU, counted in steps of ${energyResolutionMs.toFixed(0)} ms, runs repeated for many of them`,
        ]),
  ].join('\n');
}

function draftLine(position: number, { drafted, accepted, plainTokensPerSecond, gain }: DraftFigure): string {
  const times = `${fixed(gain.median, 2)} times (${fixed(gain.least, 2)} to ${fixed(gain.most, 2)})`;
  return `drafts at ${position}: ${accepted} of ${drafted} right, ${times} the ${fixed(plainTokensPerSecond.median, 1)} tok/s without`;
}

async function listReports(ui: Ui): Promise<number> {
  const { currentHash, readReports } = await import('./report-file.ts');
  const rows: (string | null)[][] = [];
  const all: object[] = [];
  const { reports, others } = readReports();
  for (const report of reports) {
    await breathe(ui.io.signal);
    const today = await currentHash(report);
    for (const kind of ['bench', 'verify', 'quality'] as const) {
      const section = report[kind];
      if (!section) continue;
      const state = today === null ? 'unknown' : section.hash === today ? 'current' : 'stale';
      const { kernel, target } = report;
      all.push({ kernel, target, kind, state, ...section });
      rows.push([
        kernel,
        kind,
        section.date,
        String(section['device'] ?? '-'),
        summary(kind, section),
        state,
      ]);
    }
  }
  if (others.length > 0) ui.note(`not written by gen: ${others.join(', ')}`);
  if (ui.json) ui.result(all);
  else if (rows.length === 0) ui.note('no reports yet: gen bench --report writes one');
  else ui.data(table(['kernel', '', 'date', 'device', 'figures', 'sources'], rows));
  return exitCode.ok;
}

function summary(kind: 'bench' | 'verify' | 'quality', section: Readonly<Record<string, unknown>>): string {
  const verdict = section['ok'] === true ? 'pass' : 'FAIL';
  if (kind === 'verify') return verdict;
  if (kind === 'quality') {
    const texts = section['texts'] as readonly Quality[] | undefined;
    const each = (texts ?? []).map(({ text, kl }) => `KL ${kl.mean.toExponential(1)} on ${text}`);
    return [verdict, ...each].join(', ');
  }
  const decode = section['decode'] as BenchResult['decode'] | undefined;
  return (decode ?? [])
    .map(({ position, tokensPerSecond, drafts }) => {
      const plain = drafts ? `, ${drafts.plainTokensPerSecond.median.toFixed(0)} without drafts` : '';
      return `${tokensPerSecond.median.toFixed(0)} tok/s at ${position}${plain}`;
    })
    .join(', ');
}
