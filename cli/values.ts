// How the values of flags and of /set are read.
import { OnelaunchError } from '../errors.ts';
import { readPlainFile } from '../plain-file.ts';
import type { Grammar } from '../runtime/grammars.ts';
import { readJson } from '../runtime/json-file.ts';
import { type JsonSchema, jsonGrammar } from '../runtime/json-grammar.ts';
import type { ReplyOptions } from '../runtime/sampling.ts';

/** Positions of a context, at most: up to here float32, in which angles are computed, has every one. */
export const mostPositions = 2 ** 24;

/** A whole number from least to most. */
export function whole(flag: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^[+-]?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw wrong(flag, text, `a whole number from ${least} to ${most}`);
  };
}

/** A number from least to most, `above` least if that is excluded. */
export function real(
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

/** A time such as 90s, 10m or 2h [ms]. */
export function duration(flag: string): (text: string) => number {
  return (text) => {
    const [, count, unit] = /^(\d+(?:\.\d+)?)(s|m|h)$/.exec(text.trim()) ?? [];
    const millis = Number(count) * ({ s: 1e3, m: 60e3, h: 3600e3 }[unit ?? ''] ?? Number.NaN);
    if (millis > 0) return millis;
    throw wrong(flag, text, 'a time above 0 in s, m or h');
  };
}

/** A text that is not empty. */
export function filled(flag: string): (text: string) => string {
  return (text) => {
    if (text.trim() !== '') return text;
    throw wrong(flag, text, 'a text that is not empty');
  };
}

/** One of these words. */
export function oneOf<Word extends string>(flag: string, words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const word = words.find((one) => one === text);
    if (word !== undefined) return word;
    throw wrong(flag, text, words.join(', '));
  };
}

/** A part of a whole, such as 1/4. */
export function share(flag: string): (text: string) => { readonly part: number; readonly parts: number } {
  return (text) => {
    const [part, parts] = /^(\d+)\/(\d+)$/.exec(text.trim())?.slice(1).map(Number) ?? [0, 0];
    if (part! >= 1 && part! <= parts!) return { part: part!, parts: parts! };
    throw wrong(flag, text, 'a part and the number of parts, from 1/n to n/n');
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
    hint: `for example: ${flag} ${exampleOf[flag.replace(/^(--|\/set )/, '')] ?? '1'}`,
  });

/** true or false. */
const exactly = (flag: string) => (text: string) => {
  if (text === 'true' || text === 'false') return text === 'true';
  throw wrong(flag, text, 'true or false');
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

/** How each option of a reply is read, given what it is called where it is typed. */
export const replyValues = {
  temperature: (flag: string) => real(flag, 0, Number.MAX_VALUE),
  topK: (flag: string) => whole(flag, 0, maxInt32),
  topP: (flag: string) => real(flag, 0, 1, { above: true }),
  minP: (flag: string) => real(flag, 0, 1),
  seed: (flag: string) => whole(flag, 0, Number.MAX_SAFE_INTEGER),
  maxTokens: (flag: string) => whole(flag, 1, maxInt32),
  repetitionPenalty: (flag: string) => real(flag, 0, 100, { above: true }),
  presencePenalty: (flag: string) => real(flag, -2, 2),
  frequencyPenalty: (flag: string) => real(flag, -2, 2),
  /** Such as 11:-100,220:2.5 */
  logitBias: (flag: string) => (text: string) => {
    const pairs = text
      .split(',')
      .map((pair) => /^\s*(\d+)\s*:\s*([+-]?\d+(?:\.\d+)?)\s*$/.exec(pair)?.slice(1).map(Number));
    if (pairs.every((pair) => pair !== undefined && Math.abs(pair[1]!) <= 100)) {
      return Object.fromEntries(pairs as [number, number][]);
    }
    throw wrong(flag, text, 'token ids with their biases from -100 to 100, between commas');
  },
  /** Given several times, there are several. */
  stop: (flag: string) => (text: string, before?: readonly string[]) => {
    if (text === '') throw wrong(flag, text, 'a text: an empty one would end every reply before it begins');
    return [...(before ?? []), text];
  },
  stopIds: (flag: string) => wholes(flag, 0, maxInt32),
  speculate: (flag: string) => (text: string) => {
    if (text === 'auto' || text === 'off') return text;
    const [tokens, ngram, ...more] = text.split(',').map((part) => (/^\d+$/.test(part) ? Number(part) : 0));
    const fits = tokens! >= 1 && tokens! <= maxInt32 && (ngram === undefined || (ngram >= 1 && ngram <= 16));
    if (fits && more.length === 0) return { tokens: tokens!, ngram };
    throw wrong(flag, text, 'auto, off, or how many tokens, and by how many of the last, 1 to 16');
  },
  schema: (flag: string) => (path: string) => {
    const hint = `${flag} takes a file of JSON Schema`;
    const schema = readJson(path, { mostBytes: mostGrammarBytes, hint }) as JsonSchema;
    // What cannot be followed is said before a model is loaded.
    jsonGrammar(schema);
    if (typeof schema === 'boolean') throw wrong(flag, path, 'a file of JSON Schema that is an object');
    return schema;
  },
  grammar: (flag: string) => (path: string) =>
    readPlainFile(path, mostGrammarBytes, `${flag} takes a file of EBNF`).toString('utf8') as Grammar,
  enableThinking: exactly,
  parseSpecialTokens: exactly,
} satisfies {
  [Name in keyof Required<Omit<ReplyOptions, Untyped>>]: (
    flag: string,
  ) => (text: string) => ReplyOptions[Name];
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
