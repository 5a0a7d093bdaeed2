// What a reply is to its reader: pieces as they come, and how it ended.
import { OnelaunchError, ofAllocation } from '../errors.ts';
import type { ToolCallPart } from './chat/tool-reader.ts';
import type { ToolCall } from './chat/tools.ts';

/** Why a reply ended: at a stop token or stop text, behind calls of functions, at maxTokens, by its signal, or because the context is full. */
export type Finish = 'stop' | 'tool_calls' | 'length' | 'abort' | 'context';

/** A token, and the natural log of the probability that the model gave it: by the softmax of its logits as they are, before logitBias,
 *  penalties and temperature. */
export interface TokenLogprob {
  readonly token: number;
  /** What it adds to a text, U+FFFD for a part of a character; of a special token, how it is spelled. */
  readonly text: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
}

/** A token of a reply, and what might have stood in its place. */
export interface ChosenLogprob extends TokenLogprob {
  /** The most likely tokens, from the first on; as many as topLogprobs. */
  readonly top: readonly TokenLogprob[];
}

/** Part of a reply. */
export interface Piece {
  /** What these tokens added; whole characters only, and nothing that may yet become a stop text. */
  readonly text: string;
  readonly tokens: readonly number[];
  /** Of each of the tokens, where the reply was asked for them. */
  readonly logprobs?: readonly ChosenLogprob[];
  /** What these tokens added to calls of functions; it is no part of the text. */
  readonly toolCalls?: readonly ToolCallPart[];
}

/** How a reply ended, all of it, and what it took. */
export interface ReplyResult {
  /** The texts of all pieces. */
  readonly text: string;
  /** All tokens the model made; a stop token is the last of them. */
  readonly tokens: readonly number[];
  /** Of each of the tokens, where the reply was asked for them. */
  readonly logprobs?: readonly ChosenLogprob[];
  /** The calls that are complete, where the reply may have some. */
  readonly toolCalls?: readonly ToolCall[];
  readonly finish: Finish;
  readonly usage: {
    /** Tokens before the reply. */
    readonly prompt: number;
    /** Those of them that the KV cache still held, so that they were not computed again. */
    readonly cached: number;
    /** Tokens of the reply. */
    readonly completion: number;
    /** Tokens that were drafted before they were computed, and those of them that were right: each has saved a pass. */
    readonly drafted: number;
    readonly accepted: number;
  };
  readonly timings: {
    /** From the start of the prompt to the first token, in the engine [ms]. */
    readonly promptMs: number;
    /** From the first token to the last, in the engine [ms]. */
    readonly decodeMs: number;
    /** Tokens after the first over decodeMs; null with fewer than two tokens. */
    readonly tokensPerSecond: number | null;
    /** From the start of the reply to its first token here, text to tokens included [ms]; null without a token. */
    readonly firstTokenMs: number | null;
  };
}

/** The pieces of a reply. Not AsyncIterableIterator, whose end has a type since TypeScript 5.6 only. */
export interface ReplyIterator extends AsyncIterator<Piece, ReplyResult | undefined> {
  /** Itself. */
  [Symbol.asyncIterator](): ReplyIterator;
  /** Ends the reply, with finish 'abort' where it has not ended. */
  return(): Promise<IteratorResult<Piece, ReplyResult | undefined>>;
}

/** A reply: starts when it is first read, and can be read once. Leaving the loop early ends it with finish 'abort', as return() of
 *  its iterator does. An iterator that is dropped in the middle ends it only once the garbage collector has found that. */
export interface Reply<Value = unknown, Call = ToolCall> {
  /** Its pieces, as they are made. @throws OnelaunchError usage when it was read before, and what the reply fails with */
  [Symbol.asyncIterator](): ReplyIterator;
  /** How it ended. Reads the reply, when nobody does. @throws what the reply failed with */
  result(): Promise<ReplyResult>;
  /** All of its text. @throws as result does */
  text(): Promise<string>;
  /** What its text is as JSON, of the type of a `schema` of zod. @throws as result does, and OnelaunchError where it is no JSON, as one
   *  that was cut at maxTokens */
  json(): Promise<Value>;
  /** The calls that are complete, their arguments of the types of the `tools`. None where the model called nothing.
   *  @throws as result does, and OnelaunchError for arguments that a schema of zod refuses, by a refinement of it */
  toolCalls(): Promise<readonly Call[]>;
}

/** What is made of a result when it is asked for. */
export interface Readers {
  readonly json: (result: ReplyResult) => unknown;
  readonly toolCalls: (result: ReplyResult) => Promise<readonly ToolCall[]>;
}

/** A reply that can be read once, by a loop or by result(). */
export function once<Value = unknown, Call = ToolCall>(
  run: (settle: (result: ReplyResult) => void) => AsyncGenerator<Piece, ReplyResult>,
  read: Readers,
): Reply<Value, Call> {
  let resolve: (result: ReplyResult) => void;
  let reject: (error: unknown) => void;
  const end = new Promise<ReplyResult>((a, b) => {
    resolve = a;
    reject = b;
  });
  // A loop that throws has told its caller; result() tells again, to whoever asks.
  end.catch(() => {});
  let taken = false;
  async function* pieces(): Pieces {
    let settled: ReplyResult | undefined;
    try {
      return yield* run((result) => {
        settled = result;
      });
    } catch (thrown) {
      const error = ofAllocation(thrown);
      reject(error);
      throw error;
    } finally {
      if (settled !== undefined) resolve(settled);
    }
  }
  const result = async () => {
    if (!taken) {
      taken = true;
      for await (const _ of pieces());
    }
    return end;
  };
  return {
    [Symbol.asyncIterator]: () => {
      if (taken) {
        throw new OnelaunchError('usage', 'a reply can be read once', {
          hint: 'Call result() for all of it after the loop.',
        });
      }
      taken = true;
      return reader(pieces(), { resolve, reject });
    },
    result,
    text: async () => (await result()).text,
    json: async () => read.json(await result()) as Value,
    toolCalls: async () => (await read.toolCalls(await result())) as readonly Call[],
  };
}

type Pieces = AsyncGenerator<Piece, ReplyResult | undefined, undefined>;

/** What ends the waiting for a result. */
interface End {
  readonly resolve: (result: ReplyResult) => void;
  readonly reject: (error: unknown) => void;
}

/** An iterator over a reply that ends the reply when nobody has the iterator any more. Ended before it was read, the reply never began: its
 *  generator tells nobody, so that its result is told here. */
function reader(reply: Pieces, { resolve, reject }: End): ReturnType<Reply[typeof Symbol.asyncIterator]> {
  const leave = leaving(reply, resolve);
  const iterator = {
    next: () => reply.next(),
    return: leave,
    throw: (error: unknown) => {
      const ended = reply.throw(error);
      ended.catch(reject);
      return ended;
    },
    [Symbol.asyncIterator]: () => iterator,
  };
  dropped.register(iterator, leave);
  return iterator;
}

/** Ends a reply. Made out of sight of its iterator: functions made in one place hold all that any of them needs, and this one is held for as long
 *  as the iterator is not collected. */
function leaving(reply: Pieces, resolve: End['resolve']) {
  return async () => {
    const ended = await reply.return(undefined);
    resolve(neverBegun);
    return ended;
  };
}

const dropped = new FinalizationRegistry<() => Promise<unknown>>((leave) => {
  leave().catch(() => {});
});

/** The result of a reply that was left before it was read, or ended before there was a prompt. */
export const neverBegun: ReplyResult = {
  ...{ text: '', tokens: [], finish: 'abort' },
  usage: { prompt: 0, cached: 0, completion: 0, drafted: 0, accepted: 0 },
  timings: { promptMs: 0, decodeMs: 0, tokensPerSecond: null, firstTokenMs: null },
};
