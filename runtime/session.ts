// A conversation that remembers: what was said is sent again, and the KV cache of its beginning is found where it was left.
import { z } from 'zod';
import { now, OnelaunchError } from '../errors.ts';
import { plainObject } from '../plain-object.ts';
import type { ChatMessage } from './chat/chat-template.ts';
import { writtenTool } from './chat/tools.ts';
import { readArgument } from './engine/arguments.ts';
import { jsonSchemaOf, type SchemaOption } from './grammar/json-schema.ts';
import { patience } from './places.ts';
import { copyOfMessages } from './prompts.ts';
import { neverBegun, once, type Piece, type Reply, type ReplyResult } from './reply.ts';
import { readersOf } from './reply-grammar.ts';
import { checkArguments, lastingSchema, type ReplyOptions, replySchema } from './sampling.ts';
import { untilAborted } from './until-aborted.ts';

/** What a conversation begins with, and what it does when it is full. */
export interface SessionOptions {
  /** What the conversation begins with; a first message of role system is never left out. @default none */
  readonly messages?: readonly ChatMessage[] | undefined;
  /** When the conversation no longer fits: `error`, the question is refused and nothing changes; `shift`, the oldest questions and
   *  their answers are left out. @default 'error' */
  readonly whenFull?: 'error' | 'shift' | undefined;
  /** Of every reply, unless it has its own. */
  readonly reply?: Omit<ReplyOptions, 'signal' | 'onPrompt'> | undefined;
}

const schema = plainObject({
  messages: z.array(z.looseObject({ role: z.string() })).optional(),
  whenFull: z.enum(['error', 'shift']).optional(),
  reply: lastingSchema.optional(),
});

/** What a session needs of a model. */
interface SessionModel {
  readonly context: number;
  chat(messages: readonly ChatMessage[], options?: ReplyOptions): Reply;
  save(file: string, session: SessionOptions): Promise<void>;
}

/** What it needs beside that, and its user has no use for. */
interface Inside {
  /** @throws OnelaunchError of kind usage where the model was closed */
  checkOpen(): void;
  /** As of a model, without holding up the event loop. */
  countTokens(
    messages: readonly ChatMessage[],
    options: Pick<ReplyOptions, 'enableThinking' | 'parseSpecialTokens' | 'tools' | 'toolChoice'>,
  ): Promise<number>;
}

/** What a session is asked. */
interface Asked {
  readonly question: readonly ChatMessage[];
  readonly options: ReplyOptions;
}

/** The reply that a session is making. */
interface Running {
  readonly signal: AbortSignal | undefined;
  readonly ended: Promise<void>;
}

/** Made by `session` of a model. Several may reply at a time, if the model was loaded for it. */
export class Session {
  readonly #llm: SessionModel;
  readonly #options: Omit<SessionOptions, 'messages'>;
  readonly #inside: Inside;
  #messages: readonly ChatMessage[];
  #running: Running | undefined;

  constructor(llm: SessionModel, options: SessionOptions, inside: Inside) {
    const { messages: _, ...others } = checkArguments(schema, options, 'options') as SessionOptions;
    this.#llm = llm;
    this.#inside = inside;
    this.#options = others;
    this.#messages = frozenCopy(options.messages ?? []);
  }

  /** All that was said, in the order in which it was: frozen, and the same list until more is said. */
  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  /** The answer to a question, which becomes part of the conversation with it; or to the results of calls, a message of role tool each. A reply that ends before its first word, or fails, is as if it
   *  had not been asked for; one that is left early is kept as far as it was made.
   *  @throws OnelaunchError, when the reply is read, as `chat` of the model does, and when the session replies already; a reply whose signal is
   *  aborted is waited for */
  chat(question: string | ChatMessage | readonly ChatMessage[], options: ReplyOptions = {}): Reply {
    // Read now: the caller may use its objects again, for the next question.
    const read = now(() => this.#read(question, options));
    return once(
      (settle) => this.#run(read(), settle),
      readersOf(() => read().options),
    );
  }

  #read(question: Parameters<Session['chat']>[0], options: ReplyOptions): Asked {
    const asked = typeof question === 'string' ? { role: 'user', content: question } : question;
    const given = Object.entries(checkArguments(replySchema, options, 'options'));
    const own = Object.fromEntries(given.filter(([, value]) => value !== undefined));
    const messages = readArgument('messages', () => [asked].flat());
    return { question: frozenCopy(messages), options: { ...this.#options.reply, ...own } };
  }

  /** Another session with the same past. What both have in common is computed once, while the KV cache has it. */
  fork(): Session {
    return new Session(this.#llm, this.#whole(), this.#inside);
  }

  /** What `session` of a model makes the same conversation of, also in another process: JSON.stringify(session). Schemas of zod are in it as the JSON
   *  Schema that they say, without what transforms and refinements add.
   *  @throws OnelaunchError of kind usage: a schema of zod that no JSON Schema says */
  toJSON(): SessionOptions {
    const { reply } = this.#options;
    return structuredClone({ ...this.#whole(), ...(reply && { reply: writtenOptions(reply) }) });
  }

  #whole(): SessionOptions {
    return { ...this.#options, messages: this.#messages };
  }

  /** Writes the conversation into a file, with what the KV cache has of it: `restore(file)` of the same model, also in another process, goes on
   *  as if it had never been left. The file is written whole or not at all.
   *  @throws OnelaunchError of kind usage while the session or the model is busy; environment when the file cannot be written */
  async save(file: string): Promise<void> {
    while (this.#running) await this.#endOf(this.#running);
    await this.#llm.save(file, this.toJSON());
  }

  /** As endOf. @throws OnelaunchError of kind usage where the model was closed: it has ended the reply, which nobody may read on */
  #endOf(running: Running): Promise<void> {
    this.#inside.checkOpen();
    return endOf(running);
  }

  async *#run(
    { question, options }: Asked,
    settle: (result: ReplyResult) => void,
  ): AsyncGenerator<Piece, ReplyResult> {
    while (this.#running) await this.#endOf(this.#running);
    let leave = () => {};
    const ended = new Promise<void>((resolve) => {
      leave = resolve;
    });
    this.#running = { signal: options.signal, ended };
    try {
      const all = [...this.#messages, ...question];
      const sent = await untilAborted(this.#fitting(all, options), options.signal);
      if (sent === null) {
        settle(neverBegun);
        return neverBegun;
      }
      const reply = this.#llm.chat(sent, options);
      try {
        yield* reply;
      } finally {
        const result = await reply.result().catch(() => undefined);
        if (result !== undefined) {
          this.#keep(question, result);
          settle(result);
        }
      }
      return await reply.result();
    } finally {
      this.#running = undefined;
      leave();
    }
  }

  /** The messages to send: all, or those that fit. */
  async #fitting(
    messages: readonly ChatMessage[],
    { signal, enableThinking, parseSpecialTokens, tools, toolChoice }: ReplyOptions,
  ): Promise<readonly ChatMessage[]> {
    if (this.#options.whenFull !== 'shift') return messages;
    const prompt = { enableThinking, parseSpecialTokens, tools, toolChoice };
    const head = messages[0]?.role === 'system' ? messages.slice(0, 1) : [];
    const rest = messages.slice(head.length);
    const begins = [0, ...rest.flatMap(({ role }, i) => (i > 0 && role === 'user' ? [i] : []))];
    const from = (begin: number) => [...head, ...rest.slice(begins[begin])];
    const fits = async (begin: number) =>
      signal?.aborted || (await this.#inside.countTokens(from(begin), prompt)) < this.#llm.context;
    return from(await firstFrom(begins.length - 1, fits));
  }

  #keep(question: readonly ChatMessage[], { finish, text, toolCalls = [] }: ReplyResult): void {
    if (finish === 'abort' && text === '' && toolCalls.length === 0) return;
    const calls = toolCalls.length > 0 && { toolCalls };
    const answer = frozenCopy([{ role: 'assistant', content: text, ...calls }]);
    this.#messages = Object.freeze([...this.#messages, ...question, ...answer]);
  }
}

/** The first number of which it is so, where it then is of all behind it; `last` may stand for none. What lies far before it is not asked for: there may be
 *  much of that, and each answer takes as long as what lies behind it. */
async function firstFrom(last: number, isSo: (number: number) => Promise<boolean>): Promise<number> {
  let [before, first] = [-1, last];
  for (let step = 1; first > 0; step *= 2) {
    const next = Math.max(0, first - step);
    if (!(await isSo(next))) {
      before = next;
      break;
    }
    first = next;
  }
  while (first - before > 1) {
    const middle = Math.floor((before + first) / 2);
    if (await isSo(middle)) first = middle;
    else before = middle;
  }
  return first;
}

const frozenCopy = (messages: readonly ChatMessage[]): readonly ChatMessage[] =>
  frozen(copyOfMessages(messages));

/** JSON that nobody changes any more. */
function frozen<T>(json: T): T {
  if (typeof json !== 'object' || json === null) return json;
  for (const inside of Object.values(json)) frozen(inside);
  return Object.freeze(json);
}

/** Waits for a reply that was told to end: it does, within a token, unless nobody reads on in it.
 *  @throws OnelaunchError of kind usage for another one */
async function endOf({ signal, ended }: Running): Promise<void> {
  const busy = () =>
    new OnelaunchError('usage', 'the session is busy with another reply', {
      hint: 'Wait for its end or abort its signal, or fork() the session before.',
    });
  if (!signal?.aborted) throw busy();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(busy()), patience);
  });
  try {
    await Promise.race([ended, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The options of replies with schemas as JSON has them. */
function writtenOptions(reply: NonNullable<SessionOptions['reply']>): NonNullable<SessionOptions['reply']> {
  const { schema: said, tools } = reply;
  return {
    ...reply,
    ...(said !== undefined && { schema: jsonSchemaOf(said, 'options.schema') as SchemaOption }),
    ...(tools !== undefined && { tools: tools.map(writtenTool) }),
  };
}
