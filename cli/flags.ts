// The flags that commands share.
import type { Command, CommandUnknownOpts, OptionValues } from '@commander-js/extra-typings';
import { cacheNames, weightNames } from '../codegen/model/formats.ts';
import { OnelaunchError } from '../errors.ts';
import { filled, mostPositions, oneOf, replyValues, whole, wholes } from './values.ts';

export type Program = Command;

/** A command with the flags that all have. */
export const outputCommand = (program: Program, name: string, options: { isDefault?: boolean } = {}) =>
  program
    .command(name, options)
    .optionsGroup('Output:')
    .option('--json', 'print JSON, errors too')
    .option('--quiet', 'print data and errors only')
    .option('--no-color', 'print without colours (NO_COLOR does the same)')
    .optionsGroup('Kernel:');

/** Flags that are the same in several commands, which take those that they have a use for. */
export const flags = {
  model: [
    '-m, --model <name|dir>',
    'a known name (see gen models), ORG/NAME in the Hub cache, or the directory or GGUF file of a model',
  ],
  target: [
    '--target <name>',
    'cpu, h100, ...; auto: the GPU found here, where nvcc is too, else cpu (default: auto)',
  ],
  weights: [
    '--weights <format>',
    'matrices as int8, int4 or fp8, rounded while they are loaded (on a GPU by a stream); int4-asym: int4 with a minimum for each block; mixed: int4, but query, key and value int8; plain: numbers of the dtype of the model (default: as the model has them)',
    oneOf(weightNames),
  ],
  cache: [
    '--cache <format>',
    'KV cache as int8 with a scale for each position and head, about half the bytes (on a GPU by a stream); plain: numbers of the dtype of the model (default: plain)',
    oneOf(cacheNames),
  ],
  context: [
    '--context <positions>',
    'prompt and reply together have at most so many tokens (default: for replies 4096, or the most that the model was made for; else what is needed)',
    whole(1, mostPositions),
  ],
  threads: ['--threads <n>', 'CPU threads (default: physical cores)', whole(1, 1024)],
  device: ['--device <n>', 'GPU ordinal (default: 0)', whole(0, 1023)],
  randomWeights: ['--random-weights', 'random weights: no checkpoint needed'],
  randomToVerify: ['--random-weights', 'random weights in the place of the checkpoint; needs --golden'],
  draft: [
    '--draft <name|dir>',
    'a smaller model of the same tokenizer, on the same device, that drafts tokens for this one to check; replies stay the same',
    filled,
  ],
  draftWeights: ['--draft-weights <format>', 'as --weights, of the draft model', oneOf(weightNames)],
  report: ['--report', 'write the figures to bench/reports'],
  positions: [
    '--positions <list>',
    'tokens in the context when decode is timed (default: 1,200,1900 as far as the model goes)',
    wholes(1, mostPositions),
  ],
} as const;

/** A command about plans that decode. */
const planCommand = (program: Program, name: string, options: { isDefault?: boolean } = {}) =>
  outputCommand(program, name, options)
    .option(...flags.model)
    .option(...flags.target)
    .option(
      '--plan <name|file>',
      'fusion plan: a known name, or a file that exports one (default: the best one for the target)',
    )
    .option(...flags.weights)
    .option(...flags.cache);

/** Those of a command about one kernel. */
export const kernelFlags = ['--model', '--target', '--plan', '--weights', '--cache', '--prompt-plan'];

/** A command about one kernel. */
export const kernelCommand = (program: Program, name: string, options: { isDefault?: boolean } = {}) =>
  planCommand(program, name, options).option(
    '--prompt-plan <name|file>',
    'a plan of its own for prompts, such as prefill, beside a stream (default: prefill on sm_90a where no plan is named, else passes of the plan)',
  );

/** What a command takes of the machine that it runs on. */
const withEngine = <Args extends unknown[], Options extends OptionValues, Outer extends OptionValues>(
  command: Command<Args, Options, Outer>,
) =>
  command
    .optionsGroup('Engine:')
    .option(...flags.context)
    .option(...flags.threads)
    .option(...flags.device);

/** A command that runs a kernel. */
export const engineCommand = (program: Program, name: string) => withEngine(kernelCommand(program, name));

/** A command that runs variants of a plan. */
export const variantsCommand = (program: Program, name: string) => withEngine(planCommand(program, name));

/** A command whose replies a draft model can draft for. */
export const draftedCommand = (program: Program, name: string) =>
  engineCommand(program, name)
    .option(...flags.draft)
    .option(...flags.draftWeights);

/** A command that makes a reply. */
const replyCommand = (program: Program, name: string) =>
  draftedCommand(program, name)
    .optionsGroup('Sampling (default: generation_config.json of the model):')
    .option('--temperature <t>', '0: always the most likely token', replyValues.temperature)
    .option('--topK <k>', 'only the k most likely tokens; 0: off', replyValues.topK)
    .option(
      '--topP <p>',
      'only the most likely tokens that together have this probability; 1: off',
      replyValues.topP,
    )
    .option('--minP <p>', 'only tokens of this share of the best probability; 0: off', replyValues.minP)
    .option(
      '--repetitionPenalty <x>',
      'divides the logits of tokens that occurred; 1: off',
      replyValues.repetitionPenalty,
    )
    .option(
      '--presencePenalty <x>',
      'subtracted from the logits of tokens that occurred; 0: off',
      replyValues.presencePenalty,
    )
    .option(
      '--frequencyPenalty <x>',
      'subtracted from the logit of a token for each time the reply has it; 0: off',
      replyValues.frequencyPenalty,
    )
    .option(
      '--logitBias <id:bias,...>',
      'added to the logits of these tokens, -100 to 100: 100 forces one, -100 bans it',
      replyValues.logitBias,
    )
    .option('--seed <n>', 'same seed, same reply', replyValues.seed)
    .optionsGroup('Reply:')
    .option('--maxTokens <n>', 'most tokens of a reply', replyValues.maxTokens)
    .option('--stop <text>', 'ends the reply before this text; may be given again', replyValues.stop)
    .option(
      '--stopIds <ids>',
      "tokens that end the reply, in the place of the model's own",
      replyValues.stopIds,
    )
    .option(
      '--schema <file>',
      'the reply is JSON that this JSON Schema accepts; thinking is left out',
      replyValues.schema,
    )
    .option(
      '--grammar <file>',
      'the reply is a text of this grammar, EBNF from its rule root on',
      replyValues.grammar,
    )
    .option(
      '--speculate <auto|off|tokens[,ngram]>',
      'drafts, from text that repeats, is forced by a schema or grammar, or comes from --draft, checked together; the reply is the same (default: auto on a GPU and with --draft, --schema or --grammar, else off)',
      replyValues.speculate,
    );

/** What a reply is made from: the words behind the command, --prompt, a file and stdin. */
export const promptCommand = (program: Program, name: string, what: string) =>
  replyCommand(program, name)
    .argument('[model]', 'the same as --model')
    .argument('[prompt]', 'the same as --prompt')
    .optionsGroup('Prompt (what is given of these is joined by an empty line, in this order, stdin last):')
    .option('-p, --prompt <text>', what)
    .option('--file <file>', 'a file of text');

/** The model that was asked for, by --model or as the word behind the command.
 *  @throws OnelaunchError usage when none was, or two */
export function needModel(
  options: { readonly model?: string | undefined },
  command: string,
  word?: string,
): string {
  const model = options.model || word;
  if (!model) {
    throw new OnelaunchError('usage', 'no --model given', {
      hint: `for example: gen ${command} --model qwen3-tiny; gen models lists the known ones`,
    });
  }
  if (options.model && word !== undefined) throw givenTwice('model', options.model, word);
  return model;
}

/** @throws OnelaunchError usage for random weights that are to be verified, without what is right of them */
export function needGolden(options: {
  readonly randomWeights?: true | undefined;
  readonly golden?: string | undefined;
}): void {
  if (!options.randomWeights || options.golden !== undefined) return;
  throw new OnelaunchError('usage', '--random-weights has nothing to compare with', {
    hint: 'give --golden FILE, or leave it out and give the directory of a checkpoint',
  });
}

/** @throws OnelaunchError usage for a position that the model does not have */
export function needPosition(
  flag: string,
  asked: number,
  { name, maxPositions }: { readonly name: string; readonly maxPositions: number },
): void {
  const last = maxPositions - 1;
  if (asked <= last) return;
  throw new OnelaunchError('usage', `${flag} is '${asked}', and the last position of ${name} is ${last}`, {
    hint: `for example: ${flag} ${last}`,
  });
}

const ofOutput = ['--json', '--quiet', '--no-color'];

/** The first of these flags that was given. */
const firstGiven = (command: CommandUnknownOpts, isOne: (flag: string) => boolean): string | undefined =>
  command.options
    .filter((one) => command.getOptionValueSource(one.attributeName()) === 'cli')
    .map(({ long }) => long!)
    .find(isOne);

/** Of what is done with one flag or word of a command most other flags say nothing.
 *  @param what is done, in the words of the command line; @param taken flags that it has a use for, beside those of all commands
 *  @throws OnelaunchError usage for another one that was given */
export function needNoOthers(command: CommandUnknownOpts, what: string, taken: readonly string[] = []): void {
  const used = [...ofOutput, ...taken];
  const other = firstGiven(command, (flag) => !used.includes(flag));
  if (other !== undefined) throw noUse(what, other);
}

/** @throws OnelaunchError usage for one of these flags, which what is done has no use for */
export function needNoneOf(command: CommandUnknownOpts, what: string, idle: readonly string[]): void {
  const other = firstGiven(command, (flag) => idle.includes(flag));
  if (other !== undefined) throw noUse(what, other);
}

export const noUse = (what: string, word: string): OnelaunchError =>
  new OnelaunchError('usage', `${what} has no use for ${word}`, { hint: 'leave one of them out' });

/** @throws OnelaunchError usage for a flag that was given without what it is of */
export function needBeside(
  command: CommandUnknownOpts,
  flag: string,
  { is, other }: { readonly is: boolean; readonly other: string },
): void {
  const option = command.options.find(({ long }) => long === flag)!;
  if (is || command.getOptionValueSource(option.attributeName()) !== 'cli') return;
  throw new OnelaunchError('usage', `${flag} is given without ${other}`, {
    hint: `give ${other}, or leave ${flag} out`,
  });
}

export const givenTwice = (flag: string, first: string, word: string): OnelaunchError =>
  new OnelaunchError('usage', `the ${flag} is given twice: --${flag} '${first}' and '${word}'`, {
    hint: 'give one of them; quote a text that has spaces',
  });

const exitCodes = `
Exit codes: 0 ok, 1 failed, 2 wrong usage or input, 3 something is missing on this machine, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP`;

export const inCheckout = 'In a checkout gen is: npm run -s gen --';

/** What --help says at its end. */
export const helpEnd = (...examples: readonly string[]): string =>
  `\nExample:\n${examples.map((example) => `  ${example}`).join('\n')}
${inCheckout}
${exitCodes}`;
