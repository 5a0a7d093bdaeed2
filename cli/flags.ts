// The flags that commands share, and how their values are read.
import type { Command } from '@commander-js/extra-typings';
import { OnelaunchError } from '../errors.ts';

export type Program = Command;

/** A whole number from least to most. */
export function whole(flag: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw wrong(flag, text, `a whole number from ${least} to ${most}`);
  };
}

/** A number from least to most, `above` least if that is excluded. */
function real(
  flag: string,
  least: number,
  most: number,
  { above = false }: { readonly above?: boolean } = {},
): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (value >= least && value <= most && !(above && value === least)) return value;
    const range = most === Number.MAX_VALUE ? `of ${least} or more` : `from ${least} to ${most}`;
    throw wrong(flag, text, above ? `a number above ${least} and up to ${most}` : `a number ${range}`);
  };
}

/** Whole numbers between commas. */
export function wholes(flag: string, least: number, most: number): (text: string) => readonly number[] {
  const one = whole(flag, least, most);
  return (text) => {
    try {
      return text.split(',').map(one);
    } catch {
      throw wrong(flag, text, `whole numbers from ${least} to ${most} between commas`);
    }
  };
}

const wrong = (flag: string, text: string, wanted: string) =>
  new OnelaunchError('usage', `${flag} is '${text}', must be ${wanted}`, {
    hint: `for example: ${flag} ${exampleOf[flag] ?? '1'}`,
  });

const exampleOf: Readonly<Record<string, string>> = {
  '--context': '2048',
  '--threads': '2',
  '--device': '0',
  '--position': '1900',
  '--positions': '1,200,1900',
  '--tokens': '100',
  '--prompt': '512',
  '--runs': '5',
  '--temperature': '0.7',
  '--topK': '40',
  '--topP': '0.9',
  '--minP': '0.05',
  '--seed': '42',
  '--maxTokens': '256',
  '--repeatPenalty': '1.1',
  '--presencePenalty': '0.5',
};

const maxInt32 = 2 ** 31 - 1;

/** A command with the flags that all have. */
export const outputCommand = (program: Program, name: string, options: { isDefault?: boolean } = {}) =>
  program
    .command(name, options)
    .optionsGroup('Output:')
    .option('--json', 'print JSON, errors too')
    .option('--quiet', 'print data and errors only')
    .option('--no-color', 'print without colours (NO_COLOR does the same)')
    .optionsGroup('Kernel:');

/** A command about one kernel. */
export const kernelCommand = (program: Program, name: string, options: { isDefault?: boolean } = {}) =>
  outputCommand(program, name, options)
    .option('--model <name|dir>', 'a known name (see gen models), or the directory of a Hugging Face model')
    .option('--target <name>', 'cpu, h100, ...; auto: the GPU found here, else cpu (default: auto)')
    .option(
      '--plan <name|file>',
      'fusion plan: a known name, or a file that exports one (default: the best one for the target)',
    );

/** A command that runs a kernel. */
export const engineCommand = (program: Program, name: string) =>
  kernelCommand(program, name)
    .optionsGroup('Engine:')
    .option(
      '--context <positions>',
      'prompt and reply together have at most so many tokens',
      whole('--context', 1, 16_777_216),
    )
    .option('--threads <n>', 'CPU threads (default: physical cores)', whole('--threads', 1, 1024))
    .option('--device <n>', 'GPU ordinal (default: 0)', whole('--device', 0, 1023));

/** A command that makes a reply. */
export const replyCommand = (program: Program, name: string) =>
  engineCommand(program, name)
    .optionsGroup('Sampling (default: generation_config.json of the model):')
    .option(
      '--temperature <t>',
      '0: always the most likely token',
      real('--temperature', 0, Number.MAX_VALUE),
    )
    .option('--topK <k>', 'only the k most likely tokens; 0: off', whole('--topK', 0, maxInt32))
    .option(
      '--topP <p>',
      'only the most likely tokens that together have this probability; 1: off',
      real('--topP', 0, 1, { above: true }),
    )
    .option('--minP <p>', 'only tokens of this share of the best probability; 0: off', real('--minP', 0, 1))
    .option('--seed <n>', 'same seed, same reply', whole('--seed', 0, Number.MAX_SAFE_INTEGER))
    .option('--maxTokens <n>', 'most tokens of a reply', whole('--maxTokens', 1, maxInt32))
    .option(
      '--repeatPenalty <x>',
      'divides the logits of tokens that occurred; 1: off',
      real('--repeatPenalty', 0, 100, { above: true }),
    )
    .option(
      '--presencePenalty <x>',
      'subtracted from the logits of tokens that occurred; 0: off',
      real('--presencePenalty', -2, 2),
    )
    .optionsGroup('Reply:');

/** The model that was asked for. @throws OnelaunchError usage when none was */
export function needModel(options: { readonly model?: string | undefined }, command: string): string {
  if (options.model) return options.model;
  throw new OnelaunchError('usage', 'no --model given', {
    hint: `for example: gen ${command} --model qwen3-tiny; gen models lists the known ones`,
  });
}

const exitCodes = `
Exit codes: 0 ok, 1 failed, 2 wrong usage or input, 3 something is missing on this machine, 130 Ctrl-C`;

/** What --help says at its end. */
export const helpEnd = (...examples: readonly string[]): string =>
  `\nExample:\n${examples.map((example) => `  ${example}`).join('\n')}\n${exitCodes}`;
