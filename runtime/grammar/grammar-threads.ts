// Grammars in threads of their own: compiling one takes up to seconds, and a mask of some as long as ten tokens.
import { OnelaunchError } from '../../errors.ts';
import type { Foreseen } from '../engine/token-masks.ts';
import { mayStartThreads, Thread } from '../thread.ts';
import { untilAborted } from '../until-aborted.ts';
import type { ThreadMask } from './grammar-thread.ts';
import { type GrammarMask, Grammars, keyOf, type MaskedBy } from './grammars.ts';
import { leaving } from './leaving.ts';
import { remember } from './recent.ts';
import { type SharedTokens, shareTokens, type TokenTexts } from './shared-tokens.ts';

/** Each holds the tokens once more. */
const mostThreads = 4;
/** Grammars of which something is known. */
const mostKnown = 1000;
/** A grammar that has been through a reply in a thread, and of which nothing took longer, is from then on one of this thread, until something does [ms]: a
 *  mask of a thread costs 0.04 to 0.08 ms more, a tenth of what a GPU takes for a token. */
const quickMillis = 50;

/** What took long to be refused is refused at once when it comes again within this [ms]; later the machine may have more time for it. */
const refusedMillis = 60_000;

interface Refusal {
  readonly error: unknown;
  readonly until: number;
}

interface Keeper {
  readonly thread: Thread;
  /** Masks that are made there. */
  masks: number;
  /** Those that are opened there, one after the other, or wait for it. */
  opening: number;
  turn: Promise<unknown>;
}

/** The grammars over the tokens of a model: each in a thread until it is known to be quick. Where Node's permissions allow no threads, all of it is done
 *  in this one. */
export class GrammarThreads {
  readonly #texts: TokenTexts;
  readonly #size: number;
  readonly #quick: number;
  #here: Grammars | undefined;
  /** What took longest of a grammar in all its replies [ms]. */
  readonly #slowest = new Map<string, number>();
  #shared: Promise<SharedTokens> | undefined;
  #keepers: readonly Keeper[] = [];
  /** By what is compiled there, the one that was asked for last at the end. */
  readonly #compiledBy = new Map<string, Keeper>();
  readonly #refused = new Map<string, Refusal>();
  #opened = 0;
  #closed = false;

  /** @param size tokens that can be chosen: ids below it @param quick a grammar takes less than this [ms] */
  constructor(texts: TokenTexts, size: number, quick = quickMillis) {
    this.#texts = texts;
    this.#size = size;
    this.#quick = quick;
  }

  /** The masks of one reply, as `mask` of Grammars. Null: the signal was aborted, or this was closed. */
  async mask(
    grammar: MaskedBy,
    stopIds: readonly number[],
    signal: AbortSignal,
  ): Promise<GrammarMask | null> {
    const key = keyOf(grammar);
    const isAlone = !mayStartThreads();
    if (isAlone || (this.#slowest.get(key) ?? this.#quick) < this.#quick) {
      this.#here ??= new Grammars(this.#texts, this.#size);
      const here = await this.#here.mask(grammar, stopIds);
      if (isAlone) return here;
      const isSlow = (millis: number): boolean => {
        if (millis < this.#quick) return false;
        this.#took(key, millis);
        return true;
      };
      return leaving(here, isSlow, () => this.#inThread(key, grammar, stopIds, signal));
    }
    return this.#inThread(key, grammar, stopIds, signal);
  }

  async #inThread(
    key: string,
    grammar: MaskedBy,
    stopIds: readonly number[],
    signal: AbortSignal,
  ): Promise<GrammarMask | null> {
    this.#shared ??= shareTokens(this.#texts, this.#size);
    const tokens = await this.#shared;
    this.#checkRefused(key);
    if (signal.aborted || this.#closed) return null;
    const keeper = this.#keeperOf(key, tokens);
    const id = this.#opened++;
    keeper.opening++;
    const opened = keeper.turn.then(async () => {
      try {
        if (signal.aborted) return null;
        this.#checkRefused(key);
        await this.#open(key, () => keeper.thread.call('open', id, grammar, stopIds));
        keeper.masks++;
        const mask = maskOf(keeper, id, (millis) => {
          if (millis !== undefined) this.#took(key, millis);
          this.#endUnused();
        });
        if (!this.#closed) return mask;
        mask.end();
        return null;
      } catch (error) {
        if (this.#closed) return null;
        throw error;
      } finally {
        keeper.opening--;
        this.#endUnused();
      }
    });
    keeper.turn = opened.catch(() => {});
    const mask = await untilAborted(opened, signal);
    // Compiled for nobody, and known when it is asked for again.
    if (mask === null) void opened.then((late) => late?.end()).catch(() => {});
    return mask;
  }

  /** Has a grammar opened, and remembers that it was refused. */
  async #open(key: string, open: () => Promise<unknown>): Promise<void> {
    const begun = performance.now();
    try {
      await open();
    } catch (error) {
      const now = performance.now();
      const isOfGrammar = error instanceof OnelaunchError && error.option?.[0] === 'grammar';
      if (isOfGrammar && now - begun >= this.#quick)
        remember(this.#refused, key, { error, until: now + refusedMillis }, mostKnown);
      throw error;
    }
  }

  #checkRefused(key: string): void {
    const refused = this.#refused.get(key);
    if (refused !== undefined && performance.now() < refused.until) throw refused.error;
  }

  /** Ends threads, those with masks as soon as these have ended. */
  close(): void {
    this.#closed = true;
    for (const { thread, masks } of this.#keepers) if (masks === 0) thread.end();
  }

  #took(key: string, millis: number): void {
    remember(this.#slowest, key, Math.max(this.#slowest.get(key) ?? 0, millis), mostKnown);
  }

  #endUnused(): void {
    if (!this.#closed) return;
    for (const { thread, masks, opening } of this.#keepers) if (masks + opening === 0) thread.end();
  }

  /** The one that has compiled it; else one that nobody waits for; else the one with the fewest masks, which stand still meanwhile. */
  #keeperOf(key: string, tokens: SharedTokens): Keeper {
    this.#keepers = this.#keepers.filter(({ thread }) => !thread.hasEnded);
    let keeper = this.#compiledBy.get(key);
    if (keeper === undefined || keeper.thread.hasEnded) {
      const [first] = this.#keepers.toSorted((a, b) => a.opening - b.opening || a.masks - b.masks);
      const isFree = first !== undefined && first.opening + first.masks === 0;
      keeper = isFree || this.#keepers.length === mostThreads ? first! : this.#start(tokens);
    }
    remember(this.#compiledBy, key, keeper, mostKnown);
    return keeper;
  }

  #start(tokens: SharedTokens): Keeper {
    const thread = new Thread(new URL('./grammar-thread.ts', import.meta.url), tokens);
    const keeper: Keeper = { thread, masks: 0, opening: 0, turn: Promise.resolve() };
    this.#keepers = [...this.#keepers, keeper];
    return keeper;
  }
}

/** @param onEnd hears what took longest of it there [ms]; undefined: the thread has ended */
function maskOf(keeper: Keeper, mask: number, onEnd: (millis: number | undefined) => void): GrammarMask {
  let [ended, expects] = [false, false];
  return {
    next: async (tokens) => {
      const made = (await keeper.thread.call('next', mask, tokens)) as ThreadMask;
      expects = made.expects;
      return made.next;
    },
    foresee: () =>
      expects ? (most) => keeper.thread.call('foresee', mask, most) as Promise<Foreseen> : null,
    end: () => {
      if (ended) return;
      ended = true;
      keeper.masks--;
      const told = keeper.thread.call('end', mask) as Promise<number>;
      void told.catch(() => undefined).then(onEnd);
    },
  };
}
