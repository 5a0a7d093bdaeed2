// How the values of flags and of /set are read, by functions that do not know what a value is called where it is typed.
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { OnelaunchError } from '../errors.ts';
import { isPlain } from '../files/json-text.ts';
import { readPlainText } from '../files/plain-file.ts';
import type { Grammar } from '../runtime/grammar/grammars.ts';
import type { JsonSchema } from '../runtime/grammar/json-grammar.ts';
import { readJson } from '../runtime/json-file.ts';
import type { ReplyOptions } from '../runtime/sampling.ts';

/** Positions of a context, at most: up to here float32, in which angles are computed, has every one. */
export const mostPositions = 2 ** 24;

/** A value that is not what is wanted there. */
class Unfit extends Error {
  constructor(wanted: string) {
    super(`must be ${wanted}`);
  }
}

/** The same function, whose errors say by which name a value was asked for. @throws OnelaunchError usage */
export function named<Rest extends unknown[], Value>(
  flag: string,
  read: (text: string, ...rest: Rest) => Value,
): (text: string, ...rest: Rest) => Value {
  return (text, ...rest) => {
    try {
      return read(text, ...rest);
    } catch (error) {
      if (!(error instanceof Unfit)) throw error;
      throw new OnelaunchError('usage', `${flag} is '${text}', ${error.message}`, {
        hint: `for example: ${flag} ${exampleOf[flag.replace(/^(--|\/set )/, '')] ?? '1'}`,
      });
    }
  };
}

/** What is wrong with the value of a flag of this command, or of one below it, is said of that flag. */
export function nameValues(command: CommandUnknownOpts): void {
  for (const option of command.options) {
    if (option.parseArg) option.parseArg = named(option.long!, option.parseArg);
  }
  command.commands.forEach(nameValues);
}

/** A whole number from least to most. */
export function whole(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new Unfit(`a whole number from ${least} to ${most}`);
  };
}

/** A number from least to most, `above` least if that is excluded. */
function real(
  least: number,
  most: number,
  { above = false }: { readonly above?: boolean } = {},
): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (value >= least && value <= most && !(above && value === least)) return value;
    const range = most === Number.MAX_VALUE ? `of ${least} or more` : `from ${least} to ${most}`;
    throw new Unfit(above ? `a number above ${least} and up to ${most}` : `a number ${range}`);
  };
}

/** 0, or a number of 1 or more: how many times as much as something that is the least. */
export function timesOrNone(most: number): (text: string) => number {
  const read = real(0, most);
  return (text) => {
    try {
      const value = read(text);
      if (value === 0 || value >= 1) return value;
    } catch {}
    throw new Unfit(`0, or a number from 1 to ${most}`);
  };
}

/** A time such as 90s, 10m or 2h [ms]. */
export function duration(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(s|m|h)$/.exec(text.trim()) ?? [];
  const millis = Number(count) * ({ s: 1e3, m: 60e3, h: 3600e3 }[unit ?? ''] ?? Number.NaN);
  if (millis > 0) return millis;
  throw new Unfit('a time above 0 in s, m or h');
}

/** A text that is not empty. */
export function filled(text: string): string {
  if (text.trim() !== '') return text;
  throw new Unfit('a text that is not empty');
}

/** One of these words. */
export function oneOf<Word extends string>(words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const word = words.find((one) => one === text);
    if (word !== undefined) return word;
    throw new Unfit(words.join(', '));
  };
}

const mostParts = 100_000;

/** A part of a whole, such as 1/4. */
export function share(text: string): { readonly part: number; readonly parts: number } {
  const [part, parts] = /^(\d+)\/(\d+)$/.exec(text.trim())?.slice(1).map(Number) ?? [0, 0];
  if (part! >= 1 && part! <= parts! && parts! <= mostParts) return { part: part!, parts: parts! };
  throw new Unfit(`a part and the number of parts, from 1/n to n/n, of up to ${mostParts}`);
}

/** Whole numbers between commas, each once: what is done for a number is not done again. */
export function wholes(least: number, most: number): (text: string) => readonly number[] {
  const one = whole(least, most);
  return (text) => {
    try {
      return [...new Set(text.split(',').map(one))];
    } catch {
      throw new Unfit(`whole numbers from ${least} to ${most} between commas`);
    }
  };
}

/** true or false. */
const exactly = (text: string): boolean => {
  if (text === 'true' || text === 'false') return text === 'true';
  throw new Unfit('true or false');
};

const exampleOf: Readonly<Record<string, string>> = {
  context: '2048',
  threads: '2',
  device: '0',
  position: '1900',
  positions: '1,200,1900',
  tokens: '100',
  prompt: '512',
  runs: '5',
  rounds: '5',
  together: '4',
  budget: '10m',
  journal: 'mine.jsonl',
  strategy: 'halving',
  shard: '1/4',
  prune: '1.5',
  samples: '50',
  jobs: '2',
  seeds: '20',
  'pass-tokens': '1,2',
  at: '0,5',
  temperature: '0.7',
  topK: '40',
  topP: '0.9',
  minP: '0.05',
  seed: '42',
  maxTokens: '256',
  repetitionPenalty: '1.1',
  presencePenalty: '0.5',
  frequencyPenalty: '0.5',
  logitBias: '11:-100,220:2.5',
  topLogprobs: '5',
  stopIds: '2,151645',
  weights: 'int8',
  cache: 'int8',
  'draft-weights': 'int8',
  draft: 'qwen3-0.6b',
  speculate: '7,3',
  schema: 'person.schema.json',
  grammar: 'answer.ebnf',
  enableThinking: 'false',
  parseSpecialTokens: 'true',
  host: '127.0.0.1',
  port: '8000',
  'served-model-name': 'qwen3',
  queue: '64',
  'body-limit': '1024',
  'queue-timeout': '60s',
  'reply-timeout': '10m',
  'drain-timeout': '30s',
};

const maxInt32 = 2 ** 31 - 1;
const mostGrammarBytes = 1_000_000;

/** How each option of a reply is read. */
export const replyValues = {
  temperature: real(0, Number.MAX_VALUE),
  topK: whole(0, maxInt32),
  topP: real(0, 1, { above: true }),
  minP: real(0, 1),
  seed: whole(0, Number.MAX_SAFE_INTEGER),
  maxTokens: whole(1, maxInt32),
  repetitionPenalty: real(0, 100, { above: true }),
  presencePenalty: real(-2, 2),
  frequencyPenalty: real(-2, 2),
  /** Such as 11:-100,220:2.5 */
  logitBias: (text: string) => {
    const pairs = text
      .split(',')
      .map((pair) => /^\s*(\d+)\s*:\s*([+-]?\d+(?:\.\d+)?)\s*$/.exec(pair)?.slice(1).map(Number));
    if (pairs.every((pair) => pair !== undefined && Math.abs(pair[1]!) <= 100)) {
      return Object.fromEntries(pairs as [number, number][]);
    }
    throw new Unfit('token ids with their biases from -100 to 100, between commas');
  },
  /** Given several times, there are several. */
  stop: (text: string, before?: readonly string[]) => {
    if (text === '') throw new Unfit('a text: an empty one would end every reply before it begins');
    return [...(before ?? []), text];
  },
  stopIds: wholes(0, maxInt32),
  speculate: (text: string) => {
    if (text === 'auto' || text === 'off') return text;
    const [tokens, ngram, ...more] = text.split(',').map((part) => (/^\d+$/.test(part) ? Number(part) : 0));
    const fits = tokens! >= 1 && tokens! <= maxInt32 && (ngram === undefined || (ngram >= 1 && ngram <= 16));
    if (fits && more.length === 0) return { tokens: tokens!, ngram };
    throw new Unfit('auto, off, or how many tokens, and by how many of the last, 1 to 16');
  },
  schema: (path: string) => {
    const hint = 'a schema is a file of JSON Schema';
    const schema = readJson(path, { mostBytes: mostGrammarBytes, hint }) as JsonSchema;
    if (!isPlain(schema)) throw new Unfit('a file of JSON Schema that is an object');
    return schema;
  },
  grammar: (path: string) => readPlainText(path, mostGrammarBytes, 'a grammar is a file of EBNF') as Grammar,
  enableThinking: exactly,
  parseSpecialTokens: exactly,
} satisfies {
  [Name in keyof Required<Omit<ReplyOptions, Untyped>>]: (text: string) => ReplyOptions[Name];
};

/** What is of use to programs alone. */
type Untyped =
  | 'signal'
  | 'onPrompt'
  | 'logprobs'
  | 'topLogprobs'
  | 'tools'
  | 'toolChoice'
  | 'parallelToolCalls';
