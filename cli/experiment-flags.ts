// The flags that gen explore and gen ablate share, and what they make of them.
import { readFileSync, statSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';
import { flags, needGolden, noUse, type Program, variantsCommand } from './flags.ts';
import { needWritable } from './output-file.ts';
import { duration, filled, whole } from './values.ts';

/** A command that times variants beside an incumbent. */
export const experimentCommand = (program: Program, name: string) =>
  variantsCommand(program, name)
    .optionsGroup('Measurement:')
    .option(...flags.positions)
    .option('--tokens <n>', 'timed tokens of a reply', whole(1, 100_000), 64)
    .option(
      '--rounds <n>',
      'replies of each variant and position, in turns with the incumbent',
      whole(1, 1000),
      5,
    )
    .option(
      '--together <n>',
      'variants that are open at a time, each with its weights, the incumbent among them',
      whole(2, 64),
      4,
    )
    .option(...flags.randomToVerify)
    .option(
      '--golden <file>',
      'file of logits that each variant must agree with before it is timed (default: golden.json beside the weights, else the reference)',
    )
    .optionsGroup('Work:')
    .option('--jobs <n>', 'variants that are compiled at a time (default: cores)', whole(1, 1024))
    .option(
      '--budget <time>',
      'begin no build so long after the start, and nothing to time that would end later, by what was timed before: 90s, 10m, 2h',
      duration,
    )
    .option('--build-only', 'only compile, on a machine that need not have the GPU')
    .option('--measure-only', 'only time what --build-only made in the same ONELAUNCH_CACHE')
    .option(
      '--journal <file>',
      'where every finding is kept; the same command goes on from it (default: a name for each experiment, in this folder)',
      filled,
    );

export interface WorkFlags {
  readonly buildOnly?: true | undefined;
  readonly measureOnly?: true | undefined;
  readonly randomWeights?: true | undefined;
  readonly golden?: string | undefined;
  readonly budget?: number | undefined;
  readonly jobs?: number | undefined;
  /** Of gen explore alone. */
  readonly out?: string | undefined;
}

/** What is to be done. @throws OnelaunchError usage for flags that contradict each other */
export function modeOf({
  buildOnly,
  measureOnly,
  randomWeights,
  golden,
  jobs,
  out,
}: WorkFlags): 'all' | 'build' | 'measure' {
  if (buildOnly && measureOnly) {
    throw new OnelaunchError('usage', '--build-only and --measure-only leave nothing to do', {
      hint: 'give one of them, or none for both halves',
    });
  }
  const idle = buildOnly ? { out } : measureOnly ? { jobs } : {};
  const [flag] = Object.entries(idle).find(([, value]) => value !== undefined) ?? [];
  if (flag !== undefined) throw noUse(buildOnly ? '--build-only' : '--measure-only', `--${flag}`);
  if (!buildOnly) needGolden({ randomWeights, golden });
  if (buildOnly) return 'build';
  return measureOnly ? 'measure' : 'all';
}

/** Refuses a file for the winner that could not be written, or that somebody wrote by hand. @throws OnelaunchError usage */
export function checkOut(path: string | undefined, mark: string): void {
  if (path === undefined) return;
  // It is written as a module.
  if (!/\.m?[jt]s$/.test(path)) {
    throw new OnelaunchError('usage', `--out is '${path}', must be a .ts or .js file`, {
      hint: 'for example: --out best.ts',
    });
  }
  needWritable('out', path, 'best.ts');
  const there = statSync(path, { throwIfNoEntry: false });
  if (there && !(there.isFile() && readFileSync(path, 'utf8').startsWith(mark))) {
    throw new OnelaunchError('usage', `--out is '${path}', which is there already`, {
      hint: 'give another name',
    });
  }
}
