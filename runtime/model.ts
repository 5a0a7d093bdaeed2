// A loaded model: text in, a streamed reply out, and the KV cache kept for a conversation that goes on.
import { z } from 'zod';
import type { Manifest } from '../abi/manifest.ts';
import { ContextOverflowError, now, OnelaunchError, ofAllocation } from '../errors.ts';
import { plainObject } from '../plain-object.ts';
import type { ChatMessage } from './chat/chat-template.ts';
import { type CallOf, callingOf, choiceSchema, type ToolOption, toolsSchema } from './chat/tools.ts';
import { type EmbedOptions, embedding, embedSchema, type Pooling, type TextEmbedding } from './embedding.ts';
import type { Engine } from './engine/engine.ts';
import { type GenerationDefaults, ofChats } from './generation-config.ts';
import type { SchemaOption } from './grammar/json-schema.ts';
import { likelihood, type TextScore } from './likelihood.ts';
import { type Place, type PlaceEngine, Places } from './places.ts';
import { copyOfMessages, idsBelow, type PromptFiles, promptsOf } from './prompts.ts';
import { type Asked, Replies } from './replies.ts';
import { once, type Reply, type ReplyResult } from './reply.ts';
import { readersOf } from './reply-grammar.ts';
import { type CheckedOptions, checkArguments, type ReplyOptions, replySchema } from './sampling.ts';
import { type CacheOrigin, madeOf, readSession, writeSession } from './saved-session.ts';
import { Session, type SessionOptions } from './session.ts';
import type { Made } from './tokenizer-apart.ts';
import { untilAborted } from './until-aborted.ts';

/** What a model needs of an engine. */
export type ReplyEngine = PlaceEngine &
  Pick<Engine, 'device' | 'context' | typeof Symbol.asyncDispose> &
  Partial<Pick<Engine, 'drafts'>>;

export interface ModelParts extends PromptFiles {
  readonly manifest: Manifest;
  readonly engine: ReplyEngine;
  /** Where replies run, at a time in each one; by default in the engine's own sequence. */
  readonly sequences?: readonly PlaceEngine[];
  /** Most replies that wait for one of these to be free; one more is refused. @default as many as come */
  readonly queue?: number | undefined;
  readonly defaults: GenerationDefaults;
  /** Which weights the engine has: a conversation is restored only with those that it was saved with. */
  readonly weights?: string;
  readonly notes?: readonly string[];
  /** Of a model that makes embeddings: its logits begin with the hidden state. */
  readonly pooling?: Pooling;
}

const pathSchema = z
  .string()
  .min(1)
  .refine((path) => !path.includes('\0'), 'expected a path');
const promptSchema = plainObject({
  enableThinking: z.boolean().optional(),
  parseSpecialTokens: z.boolean().optional(),
  tools: toolsSchema.optional(),
  toolChoice: choiceSchema.optional(),
});
const tokensSchema = z.array(z.unknown(), 'expected a text or tokens');
/** Tokens in the place of a text; what they are is looked at later. */
function listed(tokens: readonly number[]): readonly number[] {
  return checkArguments(tokensSchema, tokens, 'text') as readonly number[];
}
const scoreSchema = plainObject({ signal: z.instanceof(AbortSignal).optional() });

/** How a conversation becomes a prompt: as in ReplyOptions. */
export type PromptOptions = Pick<
  ReplyOptions,
  'enableThinking' | 'parseSpecialTokens' | 'tools' | 'toolChoice'
>;

/** A model that is ready to reply, to as many at a time as it was loaded for; those that come meanwhile wait, in their order, until they are read
 *  or their signal is aborted. So the loop over a reply must not wait for another one where there is one place. Made by `load`. */
export class LanguageModel {
  readonly manifest: Manifest;
  /** Positions of the KV cache: prompt and reply together have at most so many tokens. */
  readonly context: number;
  /** Replies that can run at a time. */
  readonly parallel: number;
  /** What it runs on, for people. */
  readonly device: string;
  /** Whether it was loaded for embeddings: then it makes no replies. */
  readonly embeds: boolean;
  /** What the user should know of the model's files, one line each: settings that disagree or are not applied, weights that are not used. */
  readonly notes: readonly string[];
  readonly #parts: ModelParts;
  readonly #places: Places;
  readonly #prompts: ReturnType<typeof promptsOf>;
  readonly #replies: Replies;
  #closing: Promise<void> | undefined;

  constructor(parts: ModelParts) {
    this.#parts = parts;
    this.manifest = parts.manifest;
    this.#places = new Places(parts.sequences ?? [parts.engine], parts.queue ?? Number.POSITIVE_INFINITY);
    this.#prompts = promptsOf(parts, parts.manifest.dims.vocab);
    this.parallel = this.#places.count;
    this.context = parts.engine.context;
    this.device = parts.engine.device;
    this.notes = parts.notes ?? [];
    this.embeds = parts.pooling !== undefined;
    this.#replies = new Replies({
      ...{ tokenizer: parts.tokenizer, manifest: parts.manifest, context: this.context },
      ...{ places: this.#places, prompts: this.#prompts, checkOpen: () => this.#checkOpen() },
      drafts: parts.sequences === undefined && (parts.engine.drafts ?? false),
    });
  }

  /** The assistant's reply to a conversation. One that goes on from the last one costs its new tokens only: the KV cache
   *  of the common beginning is kept. Special tokens written in a message are text, unless parseSpecialTokens is set.
   *  @throws OnelaunchError, when the reply is read, as `generate` does */
  chat<Value = unknown, const Tools extends readonly ToolOption[] = readonly ToolOption[]>(
    messages: readonly ChatMessage[],
    options: ReplyOptions & {
      readonly schema?: z.ZodType<Value> | SchemaOption | undefined;
      readonly tools?: Tools | undefined;
    } = {},
  ): Reply<Value, CallOf<Tools>> {
    const { defaults } = this.#parts;
    const said = now(() => copyOfMessages(messages));
    const tokens = (checked: CheckedOptions) =>
      this.#whileOpen(this.#prompts.apart.encodeChat(said(), checked));
    const asked = { tokens, defaults: ofChats(defaults), isChat: true };
    return this.#reply<Value, CallOf<Tools>>(options, asked);
  }

  /** A conversation that keeps what is said: chat(question) of it, with the messages before sent again. */
  session(options: SessionOptions = {}): Session {
    return new Session(this, options, {
      checkOpen: () => this.#checkOpen(),
      countTokens: async (messages, { enableThinking, parseSpecialTokens, ...given }) => {
        const asking = { enableThinking, parseSpecialTokens, calling: callingOf(given) };
        const tokens = await this.#whileOpen(this.#prompts.apart.encodeChat(messages, asking));
        return tokens.length;
      },
    });
  }

  /** Writes a conversation into a file, as `save` of a session does, with what the KV cache has of it. What it no longer has is computed again
   *  when the conversation goes on. Waits while all places have replies.
   *  @throws OnelaunchError of kind environment when the file cannot be written; usage when too many wait, or the model is closed */
  async save(file: string, session: SessionOptions): Promise<void> {
    checkArguments(pathSchema, file, 'file');
    this.#checkOpen();
    const written = this.session(session).toJSON();
    const { messages = [], reply = {} } = written;
    const prompt =
      messages.length > 0
        ? await this.#whileOpen(
            this.#prompts.apart.encodeChat(messages, { ...reply, calling: callingOf(reply) }),
          )
        : [];
    this.#checkOpen();
    const place = opened(await this.#places.holding(prompt, new AbortController()));
    try {
      const tokens = prompt.slice(0, place.common(prompt));
      const origin = this.#origin(place.engine);
      await writeSession(file, { origin, session: written, tokens }, (at, count) =>
        place.engine.readCache(at, count),
      );
    } finally {
      place.leave(place.held);
    }
  }

  /** The conversation in a file that `save` of a session has written: it goes on as if it had never been left, and its KV cache takes the place
   *  that was used longest ago.
   *  @throws OnelaunchError of kind usage: no such file, one that is damaged, cut short, or of another model or format; too many wait for a place, or the model is closed */
  async restore(file: string): Promise<Session> {
    checkArguments(pathSchema, file, 'file');
    this.#checkOpen();
    const saved = await readSession(file, this.#origin(this.#parts.engine), this.context);
    try {
      this.#checkOpen();
      const session = madeOf(file, () => this.session(saved.session));
      const place = opened(await this.#places.take(saved.tokens, new AbortController()));
      try {
        place.begin([]);
        for await (const { ids, bytes } of saved.pieces()) place.engine.writeCache(ids, bytes);
      } finally {
        place.leave(saved.tokens.slice(0, place.engine.position));
      }
      return session;
    } finally {
      saved.close();
    }
  }

  #origin(engine: PlaceEngine): CacheOrigin {
    const { name, hash } = this.manifest;
    const { weights = '' } = this.#parts;
    return { kernel: name, hash, weights, positionBytes: engine.cacheBytes() };
  }

  /** The continuation of a text. @throws OnelaunchError, when the reply is read, as `generate` does */
  complete(text: string, options: ReplyOptions = {}): Reply {
    const tokens = () => this.#encode(text);
    return this.#reply(options, { tokens, defaults: this.#parts.defaults, isChat: false });
  }

  /** The continuation of tokens. Pieces have text if the model has a tokenizer.
   *  @throws OnelaunchError of kind usage, when the reply is read: wrong options, a prompt that does not fit the context,
   *  a token outside the vocabulary, more replies that wait than may, a closed model; of kind failed: the engine's, KernelTimeoutError among them;
   *  InsufficientMemoryError. */
  generate(tokenIds: readonly number[], options: ReplyOptions = {}): Reply {
    const tokens = now(() => checkArguments(idsBelow(this.manifest.dims.vocab), tokenIds, 'tokenIds'));
    return this.#reply(options, { tokens, defaults: this.#parts.defaults, isChat: false });
  }

  /** The text that `chat` lets the model continue. What a message holds of special tokens is in it as it was written.
   *  @throws OnelaunchError of kind usage, as countTokens does: arguments of other types, a model without a chat template,
   *  messages that the template refuses */
  renderPrompt(
    messages: readonly ChatMessage[],
    options: Omit<PromptOptions, 'parseSpecialTokens'> = {},
  ): string {
    const { enableThinking, ...given } = checkArguments(promptSchema, options, 'options');
    return this.#prompts.render(messages, { enableThinking, calling: callingOf(given) });
  }

  /** How many tokens the prompt of `chat` has for a conversation, or that of `complete` for a text. */
  countTokens(prompt: string | readonly ChatMessage[], options: PromptOptions = {}): number {
    const checked = checkArguments(promptSchema, options, 'options');
    if (typeof prompt === 'string') return this.tokenize(prompt, { addSpecialTokens: true }).length;
    return this.#prompts.encodeChat(prompt, { ...checked, calling: callingOf(checked) }).length;
  }

  /** How likely the model finds a text, or tokens. The KV cache then holds these.
   *  @throws OnelaunchError as `generate` does, and for fewer than two tokens; the signal's reason when aborted, and an AbortError when the model is closed */
  async score(
    text: string | readonly number[],
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<TextScore> {
    const { signal } = checkArguments(scoreSchema, options, 'options');
    const tokens = typeof text === 'string' ? await this.#encodeUntil(text, signal) : listed(text);
    this.#checkReplies();
    return this.#inPlace(tokens, 2, signal, (engine, checked, either) => likelihood(engine, checked, either));
  }

  /** A text, or tokens, as a vector of length 1, of a model that was loaded with `embeddings`. What the tokenizer adds to a text is part of it.
   *  @throws OnelaunchError as `score` does, and for a model that was not loaded for it */
  async embed(text: string | readonly number[], options: EmbedOptions = {}): Promise<TextEmbedding> {
    const { pooling, dimensions, signal } = checkArguments(embedSchema, options, 'options');
    const { hidden } = this.manifest.dims;
    const usual = this.#parts.pooling;
    if (usual === undefined) {
      throw new OnelaunchError('usage', 'the model was not loaded for embeddings', {
        hint: 'load({ model, embeddings: true }) is one that makes them, and no replies.',
      });
    }
    if (dimensions !== undefined && dimensions > hidden) {
      const message = `options.dimensions is ${dimensions}, and a vector of this model has ${hidden} numbers`;
      throw new OnelaunchError('usage', message, {
        ...{ hint: 'Leave it out for all of them.', option: ['dimensions'] },
      });
    }
    const tokens = typeof text === 'string' ? await this.#encodeUntil(text, signal) : listed(text);
    const how = { pooling: pooling ?? usual, size: hidden, dimensions: dimensions ?? hidden };
    return this.#inPlace(tokens, 1, signal, async (engine, checked, either) => {
      const vector = await embedding(engine, checked, { ...how, signal: either });
      return { vector, tokens: checked.length };
    });
  }

  /** What is made of tokens from position 0 on, in a place that holds them then. @param least so many there must be */
  async #inPlace<T>(
    tokens: readonly number[],
    least: number,
    signal: AbortSignal | undefined,
    make: (engine: PlaceEngine, tokens: readonly number[], signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (tokens.length < least) {
      throw new OnelaunchError('usage', `there are ${tokens.length} tokens, and ${least} are needed`, {
        hint: 'Give a longer text, or more tokens.',
      });
    }
    const { vocab, maxPositions } = this.manifest.dims;
    if (tokens.length > this.context)
      throw new ContextOverflowError(tokens.length, this.context, maxPositions, false);
    const checked = checkArguments(idsBelow(vocab), tokens, 'tokens');
    this.#checkOpen();
    const stop = new AbortController();
    const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    const place = await this.#places.take([], stop, either);
    if (place === null) throw either.reason;
    let held: readonly number[] = [];
    try {
      place.begin([]);
      const made = await make(place.engine, checked, either);
      held = checked;
      return made;
    } catch (error) {
      throw ofAllocation(error);
    } finally {
      place.leave(held);
    }
  }

  /** Tokens of a text; addSpecialTokens adds those that the model expects around a text of its own (default false).
   *  @throws OnelaunchError of kind usage, as detokenize does: arguments of other types, a model without a tokenizer */
  tokenize(text: string, options: { readonly addSpecialTokens?: boolean } = {}): number[] {
    return this.#prompts.tokenize(text, options);
  }

  /** Text of tokens, without special ones such as <|im_end|>. */
  detokenize(tokenIds: readonly number[]): string {
    return this.#prompts.detokenize(tokenIds);
  }

  /** As tokenize; a text of more than 5,000 characters is read in a thread of its own, and holds up nothing meanwhile. */
  async tokenizeApart(
    text: string,
    options: { readonly addSpecialTokens?: boolean } = {},
  ): Promise<number[]> {
    return this.#whileOpen(this.#prompts.apart.tokenize(text, options));
  }

  /** As detokenize; more than 10,000 tokens are read in a thread of its own. */
  async detokenizeApart(tokenIds: readonly number[]): Promise<string> {
    return this.#whileOpen(this.#prompts.apart.detokenize(tokenIds));
  }

  /** Ends what runs with finish 'abort', whether or not it is read on, then frees the weights and the KV cache.
   *  Resolves when that is done, however often it is called. */
  close(): Promise<void> {
    this.#places.stop();
    this.#replies.close();
    this.#prompts.apart.close();
    this.#closing ??= this.#parts.engine[Symbol.asyncDispose]();
    return this.#closing;
  }

  /** As `close` does, at the end of an `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @throws the signal's reason when aborted */
  async #encodeUntil(text: string, signal: AbortSignal | undefined): Promise<readonly number[]> {
    const made = this.#encode(text);
    if (!(made instanceof Promise)) return made;
    const tokens = await untilAborted(made, signal);
    if (tokens === null) throw signal!.reason;
    return tokens;
  }

  #encode(text: string): Made<number[]> {
    return this.#whileOpen(this.#prompts.apart.tokenize(text, { addSpecialTokens: true }));
  }

  #reply<Value, Call>(options: ReplyOptions, asked: Asked): Reply<Value, Call> {
    // Read now: the caller may use its objects again, for the next reply.
    const read = now(() => checkArguments(replySchema, options, 'options') as ReplyOptions);
    const begin = (settle: (result: ReplyResult) => void) => {
      this.#checkOpen();
      this.#checkReplies();
      return this.#replies.run(read(), asked, settle);
    };
    return once(begin, readersOf(read));
  }

  /** What fails because the model was closed meanwhile says so. */
  #whileOpen<T>(made: Made<T>): Made<T> {
    if (!(made instanceof Promise)) return made;
    return made.catch((error) => {
      if (!(error instanceof OnelaunchError && error.kind === 'usage')) this.#checkOpen();
      throw error;
    });
  }

  #checkOpen(): void {
    if (this.#closing) throw closed();
  }

  #checkReplies(): void {
    if (!this.embeds) return;
    throw new OnelaunchError('usage', 'the model was loaded for embeddings, and makes no replies', {
      hint: 'load({ model }) beside it makes them; the weights are then in memory twice.',
    });
  }
}

const closed = () => new OnelaunchError('usage', 'the model is closed', { hint: 'Load it again.' });

/** A place that was waited for. @throws OnelaunchError of kind usage where the model was closed meanwhile */
function opened(place: Place | null): Place {
  if (place === null) throw closed();
  return place;
}
