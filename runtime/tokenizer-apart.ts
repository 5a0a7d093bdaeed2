// A tokenizer whose long texts are read in a thread of its own: one of a megabyte takes 2 s, and 10 where it is a single word.
import { OnelaunchError } from '../errors.ts';
import type { ChatMessage, ChatTemplate } from './chat/chat-template.ts';
import { mayStartThreads, Thread } from './thread.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

/** Longer texts [characters], and more messages and tokens, are read there: what is not takes 10 ms, and 50 if a text is one word. */
const mostHere = { characters: 5000, messages: 200, tokens: 10_000 };

/** A conversation, and how a template is to put it. */
export interface LongChat {
  readonly messages: readonly ChatMessage[];
  readonly enableThinking: boolean | undefined;
  readonly tools: readonly unknown[] | undefined;
  /** Special tokens in its texts are text. */
  readonly isPlain: boolean;
}

/** At once where it was made in this thread. */
export type Made<T> = T | Promise<T>;

export class TokenizerApart {
  readonly #tokenizer: Tokenizer;
  /** Null: there is none, or what it would read is no longer what this one was read from. */
  #thread: Promise<Thread | null> | undefined;
  #running: Thread | undefined;
  #closed = false;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** As `encode` of the tokenizer. */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): Made<number[]> {
    const here = () => this.#tokenizer.encode(text, options);
    if (text.length <= mostHere.characters) return here();
    return this.#there(here, async (thread) =>
      Array.from((await thread.call('encode', text, options)) as Int32Array),
    );
  }

  /** The tokens of a conversation. */
  encodeChat(template: ChatTemplate, chat: LongChat): Made<number[]> {
    const { messages, isPlain, ...options } = chat;
    const text = () => template(messages, { ...options, plain: isPlain ? this.#tokenizer.plain : undefined });
    const { source } = template;
    if (messages.length <= mostHere.messages || source === undefined) return this.encode(text());
    return this.#there(
      () => this.#tokenizer.encode(text()),
      async (thread) => {
        await thread.call('setTemplate', source);
        return Array.from((await thread.call('encodeChat', chat)) as Int32Array);
      },
    );
  }

  /** As `decode` of the tokenizer. */
  decode(ids: readonly number[]): Made<string> {
    const here = () => this.#tokenizer.decode(ids);
    if (ids.length <= mostHere.tokens) return here();
    return this.#there(here, (thread) => thread.call('decode', Int32Array.from(ids)) as Promise<string>);
  }

  /** Ends the thread; what it reads is rejected. */
  close(): void {
    this.#closed = true;
    this.#running?.end();
  }

  #there<T>(here: () => T, there: (thread: Thread) => Promise<T>): Made<T> {
    if (!mayStartThreads() || this.#closed) return here();
    // One that ran out of memory is started anew.
    if (this.#running?.hasEnded) this.#thread = undefined;
    this.#thread ??= this.#start();
    return this.#thread.then((thread) => (thread === null ? here() : there(thread)));
  }

  async #start(): Promise<Thread | null> {
    const thread = new Thread(new URL('./tokenizer-thread.ts', import.meta.url), this.#tokenizer.origin);
    this.#running = thread;
    const isSame = await thread.call('isSame').catch((error) => {
      if (this.#closed) throw error;
      return error instanceof OnelaunchError && error.kind === 'environment' ? null : false;
    });
    if (isSame === true) return thread;
    // Where the system has no more threads, one is tried again for the next text.
    if (isSame === false) this.#running = undefined;
    thread.end();
    return null;
  }
}
