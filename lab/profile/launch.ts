// A launch of a prompt: which of its tokens it has, how fast its products and its attention are, and what they should take.
import { estimate, type Kernel, launchesOf, leastWithLaunch, passesOf } from '../../codegen/index.ts';
import { runsOf, stageMicros } from '../../codegen/schedule/cost.ts';
import type { Schedule } from '../../codegen/schemes/index.ts';
import { OnelaunchError } from '../../errors.ts';
import type { Launch } from './record.ts';
import type { Summary } from './summary.ts';

/** Tokens [position, position + tokens) of a prompt. */
export interface PromptLaunch {
  readonly position: number;
  readonly tokens: number;
  readonly launch: Launch;
}

/** A launch of a prompt of so many tokens. @param number from 1 on; undefined: the last. @throws OnelaunchError usage where there is none */
export function launchOf(
  kernel: Pick<Kernel, 'schedule' | 'prompts'>,
  prompt: number,
  number?: number,
): PromptLaunch {
  const launches: { readonly position: number; readonly tokens: number }[] = [];
  let position = 0;
  for (const { tokens, tile } of passesOf(prompt, kernel)) {
    if (tile !== null) launches.push({ position, tokens });
    position += tokens;
  }
  const count = launches.length;
  if (count === 0) {
    const launches = launchesOf(kernel);
    throw new OnelaunchError('usage', `a prompt of ${prompt} tokens has no launch: passes take it in`, {
      hint: launches
        ? `ask for --prompt ${leastWithLaunch(launches)} or more`
        : 'on a GPU: --plan stream --prompt-plan prefill',
    });
  }
  const chosen = launches[(number ?? count) - 1];
  if (!chosen) {
    const text = `--launch is '${number}', and a prompt of ${prompt} tokens has ${count === 1 ? '1 launch' : `${count} launches`}`;
    throw new OnelaunchError('usage', text, { hint: `for example: --launch ${count}` });
  }
  return { ...chosen, launch: { number: number ?? count, count } };
}

/** Such as `tokens 0 to 998`, and which launch they are where there are several. */
export function launchText({ position, tokens, launch }: PromptLaunch): string {
  const { number, count } = launch;
  const which = count === 1 ? '' : `, launch ${number} of ${count}`;
  return `tokens ${position.toLocaleString('en')} to ${(position + tokens - 1).toLocaleString('en')}${which}`;
}

/** What a stage of a launch, or all of it, comes to. */
export interface StageFigures {
  /** As `gen explain` has it [us]; null without a known bandwidth. */
  readonly predicted: number | null;
  /** TFLOP/s, by what its results need; null where nothing is multiplied. */
  readonly teraflops: number | null;
}

export interface LaunchFigures {
  /** In the order of the summary. */
  readonly stages: readonly StageFigures[];
  readonly all: StageFigures;
}

export function figuresOf(
  { stages, total }: Summary,
  schedule: Schedule,
  { position, tokens, launch }: PromptLaunch,
): LaunchFigures {
  const cost = estimate(schedule, position, tokens, launch.number === launch.count);
  const rate = (flop: number, micros: number) => (flop === 0 ? null : flop / micros / 1e6);
  const costs = stages.map(({ stage }) => cost.stages.find(({ name }) => name === stage)!);
  const flops = costs.map((of) => runsOf(schedule, of) * (of.flop ?? 0));
  return {
    stages: costs.map((of, i) => ({
      predicted: stageMicros(schedule, of),
      teraflops: rate(flops[i]!, stages[i]!.total),
    })),
    all: {
      predicted: cost.micros,
      teraflops: rate(
        flops.reduce((sum, flop) => sum + flop, 0),
        total,
      ),
    },
  };
}
