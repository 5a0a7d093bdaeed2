// The command line: arguments to a command, its outcome to an exit code. What a command needs is imported when it runs.
import { Command, CommanderError } from '@commander-js/extra-typings';
import { debugLevel } from '../codegen/build/debug.ts';
import { packageVersion } from '../codegen/build/package-root.ts';
import { didYouMean } from '../codegen/plan/did-you-mean.ts';
import { uncaughtOfPlan } from '../configs/read-plan.ts';
import { OnelaunchError } from '../errors.ts';
import { breathe } from '../lab/breathe.ts';
import { addAblate } from './ablate.ts';
import { addBench } from './bench.ts';
import { addBuild } from './build.ts';
import { addCalibrate } from './calibrate.ts';
import { addChat } from './chat.ts';
import { addComplete } from './complete.ts';
import { addDemo } from './demo.ts';
import { addDiff } from './diff.ts';
import { addDoctor } from './doctor.ts';
import { report } from './errors.ts';
import { exitCode } from './exit-code.ts';
import { addExplain } from './explain.ts';
import { addExplore } from './explore.ts';
import { helpEnd, type Program } from './flags.ts';
import type { Io } from './io.ts';
import { addModels } from './models.ts';
import { addProfile } from './profile.ts';
import { addPull } from './pull.ts';
import { addQuality } from './quality.ts';
import { addQuantize } from './quantize.ts';
import { addReport } from './report.ts';
import { addResources } from './resources.ts';
import { addServe } from './serve.ts';
import { addSimulate } from './simulate.ts';
import { createUi, type Start } from './ui.ts';
import { nameValues } from './values.ts';
import { addVerify } from './verify.ts';

/** Runs gen with these arguments. Never throws; returns the exit code. */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  let code: number = exitCode.ok;
  const start: Start = async (options, body) => {
    code = await body(createUi(io, options));
  };
  const program = createProgram(io, start);
  const names = program.commands.map((command) => command.name());
  const command = names.find((name) => name === argv[0]) ?? 'build';
  try {
    debugLevel(io.env);
    await refuseUnknownCommand(argv, names);
    await program.parseAsync(argv, { from: 'user' });
    // What computed without a pause hears only now that it was to end.
    await breathe();
    return code === exitCode.ok && io.signal.aborted ? io.interruptedCode() : code;
  } catch (error) {
    // Help and version were printed already.
    if (error instanceof CommanderError && error.exitCode === 0) return exitCode.ok;
    return report(explained(error, argv, program), io, { json: wantsJson(argv), command });
  }
}

/** Tells what nobody caught, and says with what the process exits. */
export const reportUncaught = (error: unknown, argv: readonly string[], io: Io): number =>
  report(uncaughtOfPlan(error) ?? error, io, { json: wantsJson(argv), command: 'build' });

const wantsJson = (argv: readonly string[]): boolean =>
  argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined).includes('--json');

/** All commands with their flags. @param start runs what a command does */
export function createProgram(io: Io, start: Start): Program {
  const program = new Command('gen')
    .description('Generates, builds and runs kernels that decode a language model in one launch.')
    .version(`onelaunch ${packageVersion()}`, '-v, --version', 'print the version')
    .helpOption('-h, --help', 'show this')
    .helpCommand('help [command]', 'show the flags of a command')
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: () => {} })
    .configureHelp({ helpWidth: io.outIsTty ? Math.min(110, io.columns()) : 110, minWidthToWrap: 20 });
  for (const add of [
    ...[addBuild, addExplain, addVerify, addBench, addChat],
    ...[addComplete, addServe, addDemo, addDoctor, addModels, addPull],
    ...[addExplore, addAblate, addCalibrate, addProfile, addQuality, addQuantize, addReport],
    ...[addDiff, addResources, addSimulate],
  ]) {
    add(program, start);
  }
  nameValues(program);
  program.addHelpText(
    'after',
    helpEnd(
      'gen --model qwen3-tiny          the same as gen build --model qwen3-tiny',
      'gen chat qwen3-tiny             talk to the bundled model',
      'gen demo                        all of it in a minute',
    ),
  );
  return program;
}

/** A misspelt command would otherwise be an argument of the default one. */
async function refuseUnknownCommand(argv: readonly string[], names: readonly string[]): Promise<void> {
  const word = argv[0] === 'help' ? argv[1] : argv[0];
  if (word === undefined || word.startsWith('-') || word === 'help' || names.includes(word)) return;
  const { modelNames } = await import('../configs/resolve.ts');
  if (modelNames().includes(word) || word.includes('/')) {
    throw new OnelaunchError('usage', `'${word}' is a model, and no command stands before it`, {
      hint: `for example: gen chat ${word}`,
    });
  }
  throw new OnelaunchError('usage', `unknown command '${word}'`, {
    hint: `${didYouMean(word, names)}known: ${names.join(', ')}`,
  });
}

/** What commander found wrong, with a better hint where we know one. */
function explained(error: unknown, argv: readonly string[], program: Program): unknown {
  if (!(error instanceof CommanderError)) return error;
  const names = program.commands.map((command) => command.name());
  const message = error.message.replace(/^error: /, '');
  const operand = argv.slice(1).find((word) => names.includes(word));
  const isBehindFlags = operand !== undefined && !names.includes(argv[0] ?? '');
  const flag = /unknown option '([^'=]+)/.exec(message)?.[1];
  if (flag !== undefined && !isBehindFlags) {
    const command = program.commands.find((one) => one.name() === (argv[0] ?? '')) ?? program.commands[0]!;
    const known = command.options.flatMap((option) => option.long ?? []);
    const hint = `${didYouMean(flag, [...known, '--help'])}gen ${command.name()} --help lists the flags`;
    return new OnelaunchError('usage', `unknown option '${flag}'`, { hint });
  }
  if (flag === undefined && error.code !== 'commander.excessArguments') return error;
  if (!isBehindFlags) {
    const [name, word] = argv;
    if ((name === 'build' || name === 'demo') && word !== undefined && !word.startsWith('-')) {
      return new OnelaunchError('usage', `'${word}' stands behind gen ${name} without a flag`, {
        hint: `for example: gen ${name} --model ${word}`,
      });
    }
    const command = program.commands.find((one) => one.name() === name) ?? program.commands[0]!;
    const takesText = command.registeredArguments.some((argument) => argument.name() === 'prompt');
    const hint = takesText ? 'quote a text that has spaces' : `gen ${command.name()} --help`;
    return new OnelaunchError('usage', message, { hint });
  }
  return new OnelaunchError('usage', `flags stand before the command '${operand}'`, {
    hint: `gen ${operand} ${argv.filter((word) => word !== operand).join(' ')}`,
  });
}
