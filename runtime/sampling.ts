// The options of a reply, checked and completed with the model's own defaults.
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';
import { keysOf, plainObject } from '../plain-object.ts';
import {
  type Calling,
  callingOf,
  choiceSchema,
  type ToolChoice,
  type ToolOption,
  toolsSchema,
} from './chat/tools.ts';
import { check, readArgument } from './engine/arguments.ts';
import type { Sampling } from './engine/bindings.ts';
import { mostBiases, mostTopLogprobs } from './engine/limits.ts';
import { type LogitBias, mostNgram, type OnPrompt, type Speculate } from './engine/options.ts';
import type { GenerationDefaults } from './generation-config.ts';
import type { Grammar } from './grammar/grammars.ts';
import { type SchemaOption, schemaOption } from './grammar/json-schema.ts';
import type { BoundedGrammar } from './grammar/length-counter.ts';
import { firstIssue, inWords } from './limit-words.ts';
import { grammarOf } from './reply-grammar.ts';

/** How a reply is made. What is left out comes from the model's generation_config.json. */
export interface ReplyOptions {
  /** Most tokens of the reply. @default the model's max_new_tokens or max_length, else 4096; or what is left of the context */
  readonly maxTokens?: number | undefined;
  /** 0: always the most likely token. @default the model's; 0 where it says do_sample: false, or nothing */
  readonly temperature?: number | undefined;
  /** Only the k most likely tokens; 0: off. */
  readonly topK?: number | undefined;
  /** Only the smallest set of tokens with this much probability, more than 0 to 1; 1: off. */
  readonly topP?: number | undefined;
  /** Only tokens of at least this share of the best one's probability, 0 to 1; 0: off. */
  readonly minP?: number | undefined;
  /** Divides the logit of tokens that occurred, as transformers does; 1: off. Applies at temperature 0 too. */
  readonly repetitionPenalty?: number | undefined;
  /** Subtracted from the logit of tokens that occurred, in the prompt too, -2 to 2; 0: off. Applies at temperature 0 too. */
  readonly presencePenalty?: number | undefined;
  /** Subtracted from the logit of a token for each time that it was chosen in this reply, -2 to 2; 0: off. The prompt does not count.
   *  Applies at temperature 0 too. */
  readonly frequencyPenalty?: number | undefined;
  /** Added to the logits of tokens, by id, before penalties and temperature: -100 to 100, of up to 1024 tokens. 100 all but forces a token,
   *  -100 all but bans it. */
  readonly logitBias?: Readonly<Record<number, number>> | undefined;
  /** Pieces and result say how likely the model found each token. @default whether topLogprobs is given */
  readonly logprobs?: boolean | undefined;
  /** And how likely so many of the most likely tokens, 0 to 20. @default 0 */
  readonly topLogprobs?: number | undefined;
  /** Whole number from 0 to 2^53 - 1. The same seed gives the same reply to the same prompt, as long as as much of it is kept in the
   *  KV cache: a kept beginning was computed token by token, and its last bits may differ. @default drawn anew for each reply */
  readonly seed?: number | undefined;
  /** The reply ends before the first of these texts; a special token such as <|im_end|> ends it as a token. @default the model's stop_strings */
  readonly stop?: string | readonly string[] | undefined;
  /** Tokens that end the reply, in the place of the model's own: its eos_token_id, in a chat also the tokenizer's eos_token. */
  readonly stopIds?: readonly number[] | undefined;
  /** Tokens that may come next are drafted, and several checked in one pass. The reply is the same, token by token; where text
   *  repeats, as a list or an edited file does, it takes less time; with `schema`, `grammar` or `tools` what these force is drafted in place of that.
   *  'auto': where that pays; numbers: so many or as a pass has room for, found by the last `ngram` tokens (3) or fewer.
   *  @default 'auto' on a GPU, with a draft model, and where text is forced; else 'off' */
  readonly speculate?: Speculate | undefined;
  /** Called as the prompt is taken in, pass by pass: tokens of it that are in the KV cache, those that it still held among them, and all.
   *  An error it throws ends the reply. */
  readonly onPrompt?: OnPrompt | undefined;
  /** Ends the reply with finish 'abort'; what was said so far is kept. */
  readonly signal?: AbortSignal | undefined;
  /** The reply is JSON that this schema accepts: JSON Schema, or a schema of zod. `json()` of the reply reads it. Thinking is then left
   *  out, unless enableThinking is true: what is behind it is JSON. Not with `grammar`. */
  readonly schema?: SchemaOption | undefined;
  /** The reply is a text of this grammar: EBNF from its rule root on, or a regular expression. As `schema` of thinking. */
  readonly grammar?: Grammar | undefined;
  /** Functions that the reply may call, told to the model by its chat template. Once a call begins, it is of one of them, and its arguments are
   *  as the parameters say; `toolCalls()` of the reply has them. Stop texts end what is said, not calls. Beside a `schema` a reply is either calls or JSON of it. Not with
   *  `grammar`. Chat only. */
  readonly tools?: readonly ToolOption[] | undefined;
  /** Whether the reply calls: 'auto', as the model decides, behind what it says; 'required', at least one; { name }, this one; { names, mode }, of all that it is told these alone, by mode 'auto' or 'required'; 'none', as if there were
   *  no tools. With 'required' and { name } thinking is left out, unless enableThinking is true. @default 'auto' */
  readonly toolChoice?: ToolChoice | undefined;
  /** Whether a reply may have several calls, where the model's template knows that. @default true */
  readonly parallelToolCalls?: boolean | undefined;
  /** Qwen3: false leaves out the thinking part. Chat only. */
  readonly enableThinking?: boolean | undefined;
  /** Special tokens such as <|im_end|>, written in a message, are tokens and not text: for messages that are all your own.
   *  Chat only. @default false */
  readonly parseSpecialTokens?: boolean | undefined;
}

/** Options of which nothing is open. */
export interface CheckedOptions {
  readonly maxTokens: number;
  /** Most tokens of prompt and reply together, where the model says so and the caller does not say maxTokens. */
  readonly maxLength: number | null;
  readonly sampling: Sampling;
  readonly bias: LogitBias;
  /** Null: no log probabilities. */
  readonly topLogprobs: number | null;
  readonly stop: readonly string[];
  readonly stopIds: readonly number[];
  /** Null: what is usual where the model runs. */
  readonly speculate: Speculate | null;
  /** Null: any text. */
  readonly grammar: Grammar | BoundedGrammar | null;
  /** Null: no functions. */
  readonly calling: Calling | null;
  readonly onPrompt: OnPrompt | undefined;
  readonly signal: AbortSignal | undefined;
  readonly enableThinking: boolean | undefined;
  readonly parseSpecialTokens: boolean;
}

/** Replies longer than this are asked for. */
const defaultMaxTokens = 4096;

/** Biases by token id. A record of zod leaves a key `__proto__` out without a word: it is refused before. */
export const biasSchema = z
  .custom<object>((value) => !Object.hasOwn(Object(value), '__proto__'), 'expected token ids')
  .pipe(
    z.record(
      z.string().regex(/^(0|[1-9]\d*)$/, 'expected token ids'),
      z.number().min(-100).max(100),
      'expected biases from -100 to 100 by token id',
    ),
  );

const id = z.int().nonnegative();
const replyShape = {
  maxTokens: z
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .optional(),
  temperature: z.number().nonnegative().optional(),
  topK: z
    .int()
    .nonnegative()
    .max(2 ** 31 - 1)
    .optional(),
  topP: z.number().positive().max(1).optional(),
  minP: z.number().nonnegative().max(1).optional(),
  repetitionPenalty: z.number().positive().optional(),
  presencePenalty: z.number().min(-2).max(2).optional(),
  frequencyPenalty: z.number().min(-2).max(2).optional(),
  logitBias: biasSchema.optional(),
  logprobs: z.boolean().optional(),
  topLogprobs: z.int().min(0).max(mostTopLogprobs).optional(),
  seed: z.int().nonnegative().optional(),
  stop: z.union([z.string(), z.array(z.string())]).optional(),
  stopIds: z.array(id).optional(),
  speculate: z
    .union(
      [
        z.literal(['auto', 'off']),
        plainObject({
          tokens: z
            .int()
            .min(1)
            .max(2 ** 31 - 1),
          ngram: z.int().min(1).max(mostNgram).optional(),
        }),
      ],
      "expected 'auto', 'off' or { tokens, ngram }",
    )
    .optional(),
  onPrompt: z.custom<OnPrompt>((value) => typeof value === 'function', 'expected a function').optional(),
  signal: z.instanceof(AbortSignal).optional(),
  schema: schemaOption.optional(),
  grammar: z
    .union([z.string().min(1), plainObject({ regex: z.string().min(1) })], 'expected EBNF or { regex }')
    .optional(),
  tools: toolsSchema.optional(),
  toolChoice: choiceSchema.optional(),
  parallelToolCalls: z.boolean().optional(),
  enableThinking: z.boolean().optional(),
  parseSpecialTokens: z.boolean().optional(),
};
export const replySchema = plainObject(replyShape);
const { signal: _signal, onPrompt: _onPrompt, ...lasting } = replyShape;
/** Of all replies of a session. */
export const lastingSchema = plainObject(lasting);

/** Options as the engine takes them.
 *  @param size rows of the logits that have a token
 *  @throws OnelaunchError of kind usage: an unknown option, or a value out of its range. */
export function checkOptions(
  options: ReplyOptions,
  defaults: GenerationDefaults,
  size: number,
): CheckedOptions {
  const given = checkArguments(replySchema, options, 'options');
  const stop = [given.stop ?? defaults.stop].flat();
  if (stop.includes('')) {
    throw new OnelaunchError('usage', 'options.stop holds an empty text', {
      ...{ hint: 'It would end every reply before it begins: leave it out.', option: ['stop'] },
    });
  }
  const bias = given.logitBias ?? {};
  checkBias(bias, size);
  const calling = callingOf(given);
  const grammar = calling === null ? grammarOf(given) : null;
  const isFixed = grammar !== null || (calling !== null && (calling.required || calling.said !== null));
  const { topLogprobs, logprobs = topLogprobs !== undefined } = given;
  return {
    maxTokens: given.maxTokens ?? defaults.maxTokens ?? defaultMaxTokens,
    maxLength: given.maxTokens === undefined && defaults.maxTokens === null ? defaults.maxLength : null,
    sampling: {
      temperature: temperatureOf(given.temperature ?? defaults.temperature),
      top_k: given.topK ?? defaults.topK,
      top_p: asPositive(given.topP ?? defaults.topP),
      min_p: given.minP ?? defaults.minP,
      repetition_penalty: asPositive(given.repetitionPenalty ?? defaults.repetitionPenalty),
      presence_penalty: given.presencePenalty ?? 0,
      frequency_penalty: given.frequencyPenalty ?? 0,
      seed: given.seed ?? Math.floor(Math.random() * 2 ** 32),
      vocab: size,
    },
    bias,
    topLogprobs: logprobs ? (topLogprobs ?? 0) : null,
    stop,
    stopIds: given.stopIds ?? defaults.stopIds,
    speculate: given.speculate ?? null,
    grammar,
    calling,
    onPrompt: given.onPrompt,
    signal: given.signal,
    enableThinking: given.enableThinking ?? (isFixed ? false : undefined),
    parseSpecialTokens: given.parseSpecialTokens ?? false,
  };
}

/** Normal numbers of float32, in which the engine takes what is a double here. */
const [leastFloat, mostFloat] = [2 ** -126, 2 ** 128 - 2 ** 104];
/** Logits of up to 2^64 divided by it are still finite; below it only equal ones have a chance beside the best. */
const leastTemperature = 2 ** -64;

const temperatureOf = (value: number): number => (value < leastTemperature ? 0 : Math.min(value, mostFloat));

/** The nearest number above 0 that the engine can take. */
const asPositive = (value: number): number => Math.min(Math.max(value, leastFloat), mostFloat);

/** @param size rows of the logits that have a token */
function checkBias(bias: LogitBias, size: number): void {
  const ids = Object.keys(bias);
  if (ids.length > mostBiases) {
    throw new OnelaunchError(
      'usage',
      `options.logitBias has ${ids.length} tokens, and there may be ${mostBiases}`,
      {
        ...{ hint: 'Leave out those that change least.', option: ['logitBias'] },
      },
    );
  }
  const beyond = ids.find((id) => Number(id) >= size);
  if (beyond === undefined) return;
  throw new OnelaunchError('usage', `options.logitBias has token ${beyond}, which the model does not have`, {
    ...{ hint: `Its tokens are 0 to ${size - 1}.`, option: ['logitBias', beyond] },
  });
}

/** A caller's argument as the schema describes it, or a usage error that names the wrong key and what it may be. */
export function checkArguments<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  name: string,
): z.infer<Schema> {
  // An issue's text is made when it is asked for, from the value itself.
  return readArgument(name, () => {
    checkLengths(name, value);
    const parsed = schema.safeParse(value);
    if (!parsed.success) throw refusal(schema, firstIssue(parsed.error), name);
    return parsed.data;
  });
}

function refusal(schema: z.ZodType, issue: z.core.$ZodIssue, name: string): OnelaunchError {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  const option = name === 'options' ? path : [name, ...path];
  if (issue.code === 'unrecognized_keys') {
    const known = issue.path.length === 0 ? keysOf(schema) : null;
    const at = [name, ...issue.path].join('.');
    return new OnelaunchError('usage', `${at} has no ${issue.keys[0]}`, {
      hint: known ? `There are ${known.join(', ')}.` : 'Leave it out.',
      option: [...option, issue.keys[0]!],
    });
  }
  const at = [name, ...issue.path].join('.');
  const [inner = issue] = issue.code === 'invalid_key' ? issue.issues : [];
  return new OnelaunchError(
    'usage',
    `${at}: ${inWords(inner.message).replace(/^Invalid (input|option): /, '')}`,
    {
      ...{ hint: 'The doc comment of the option says what it may be.', option },
    },
  );
}

/** Longer than any context, and shorter than what would take seconds to look through. */
const mostEntries = 2 ** 22;

/** That no list in a value is so long that reading it takes for ever: a list may be long and hold nothing. */
function checkLengths(name: string, value: unknown): void {
  if (Array.isArray(value)) check(value.length <= mostEntries, `${name} has ${value.length} entries`);
  else if (typeof value === 'object' && value !== null) {
    for (const [key, part] of Object.entries(value)) {
      if (Array.isArray(part)) check(part.length <= mostEntries, `${name}.${key} has ${part.length} entries`);
    }
  }
}
