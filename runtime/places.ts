// Where replies run: sequences of the KV cache, one reply at a time in each, and what they hold for the next. All of them are one budget of
// memory: who comes takes the place that was used longest ago, and copies what another holds of its prompt.
import { OnelaunchError } from '../errors.ts';
import type { Engine } from './engine/engine.ts';
import type { Sequence } from './engine/sequence.ts';
import { Queue } from './queue.ts';

/** What a place needs: an engine, or one of its sequences. */
export type PlaceEngine = Pick<
  Engine,
  'position' | 'vocab' | 'generate' | 'scoreRows' | 'reset' | 'cacheBytes' | 'readCache' | 'writeCache'
> &
  Partial<Pick<Sequence, 'slot' | 'copyFrom'>>;

/** A place that one reply has until it leaves. */
export class Place {
  readonly engine: PlaceEngine;
  /** Ends what runs here; undefined: it is free. */
  stop: AbortController | undefined;
  /** The token of each position of its KV cache; while a reply runs here, the tokens of its prompt, of which the cache has as many as the engine says. */
  held: readonly number[] = [];
  /** When its reply began, counted in replies. */
  begun = 0;
  /** Lets the next one in that waits for a place. */
  onFree = () => {};
  /** Since when nobody asks for the next piece of the reply that runs here [ms of performance.now]; undefined: somebody does. */
  unreadSince: number | undefined;
  readonly #waiting = new Set<() => void>();

  constructor(engine: PlaceEngine) {
    this.engine = engine;
  }

  /** How many tokens of a prompt need not be computed, once all that it is to hold is there. At least one is: a reply's first token needs the
   *  logits of the prompt's last. */
  common(prompt: readonly number[]): number {
    const most = Math.min(this.held.length, prompt.length - 1);
    let common = 0;
    while (common < most && this.held[common] === prompt[common]) common++;
    return common;
  }

  /** As common, of what is there by now. */
  ready(prompt: readonly number[]): number {
    return Math.min(this.common(prompt), this.engine.position);
  }

  /** Forgets all but the beginning that it has in common with a prompt, whose tokens it holds from here on. */
  begin(prompt: readonly number[]): void {
    const common = this.ready(prompt);
    if (common < this.engine.position) this.engine.reset(common);
    this.held = prompt;
  }

  /** To be called when the cache has more of the prompt. */
  moved(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves when the cache has more of the prompt, the place is free, or the signal is aborted. */
  change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', wake);
    });
  }

  /** Gives the place to the next. @param held what it holds now */
  leave(held: readonly number[]): void {
    this.held = held;
    this.stop = undefined;
    this.unreadSince = undefined;
    this.moved();
    this.onFree();
  }
}

/** What a queue refuses those with whose signal is aborted. */
const left = new Error('its signal was aborted before its turn');

/** How long a place may be waited for while nobody reads on in any of the replies that run [ms]: one who waits in the loop over a reply would wait
 *  for ever. Who looks at a piece for longer, while others wait, has them told that the model is busy. */
export const patience = 10_000;

/** All places of a model, and those who wait for one, in the order in which they came. */
export class Places {
  /** The one that was used longest ago first. */
  #places: readonly Place[];
  #begun = 0;
  readonly #queue: Queue;
  /** Of those who wait. */
  readonly #stops = new Set<AbortController>();

  /** @param mostWaiting one more is refused */
  constructor(engines: readonly PlaceEngine[], mostWaiting: number) {
    this.#places = engines.map((engine) => new Place(engine));
    this.#queue = new Queue({
      ...{ capacity: mostWaiting, waitMillis: null, late: () => left, left: () => left },
      full: () => this.#busy(mostWaiting),
    });
    this.#queue.places = engines.length;
  }

  get count(): number {
    return this.#places.length;
  }

  /** A place for a prompt, when it is its turn: the free one that holds most of it, if no more is lost there than found; else one that holds
   *  nothing, or the one that was used longest ago. Null: it was stopped, or the signal aborted, while it waited.
   *  @throws OnelaunchError of kind usage when too many wait, or nobody reads on in the replies that run */
  take(
    prompt: readonly number[],
    stop: AbortController,
    signal: AbortSignal = stop.signal,
  ): Promise<Place | null> {
    return this.#enter(stop, signal, () => this.#best(prompt));
  }

  /** The free place that holds most of these tokens, when it is this one's turn, as take gives one. */
  holding(tokens: readonly number[], stop: AbortController): Promise<Place | null> {
    return this.#enter(stop, stop.signal, () => mostBy(this.#free(), (place) => place.common(tokens)));
  }

  async #enter(stop: AbortController, signal: AbortSignal, choose: () => Place): Promise<Place | null> {
    this.#stops.add(stop);
    const watch = setInterval(() => this.#refuseStuck(), patience / 10);
    try {
      const leave = await this.#queue.enter(signal);
      if (signal.aborted) {
        leave();
        return null;
      }
      const place = choose();
      place.stop = stop;
      place.onFree = leave;
      return place;
    } catch (error) {
      if (error === left) return null;
      throw error;
    } finally {
      clearInterval(watch);
      this.#stops.delete(stop);
    }
  }

  #refuseStuck(): void {
    const unread = performance.now() - patience;
    if (!this.#places.every(({ unreadSince }) => unreadSince !== undefined && unreadSince < unread)) return;
    const which =
      this.count > 1 ? `${this.count} replies that nobody reads on` : 'a reply that nobody reads on';
    const hint = 'Read it to its end, leave its loop or abort its signal before you wait for another.';
    this.#queue.refuse(new OnelaunchError('usage', `the model is busy with ${which}`, { hint }));
  }

  #busy(mostWaiting: number): OnelaunchError {
    const many = this.count > 1;
    const what = many ? `${this.count} replies, as many as it was loaded for` : 'another reply';
    const waiting = mostWaiting > 0 ? `, and ${mostWaiting} wait, as many as may` : '';
    const hint = many
      ? 'Wait for the end of one, or load the model with more `parallel` or `queue`.'
      : 'Wait for its end, leave its loop or call return() of its iterator, abort its signal, or load the model with more `queue`.';
    return new OnelaunchError('usage', `the model is busy with ${what}${waiting}`, { hint });
  }

  #best(prompt: readonly number[]): Place {
    const free = this.#free();
    const best = mostBy(free, (place) => place.common(prompt));
    const common = best.common(prompt);
    const lost = best.held.length - common;
    const empty = free.find(({ held }) => held.length === 0);
    const oldest = empty ?? free[0]!;
    const taken = lost === 0 || (lost <= common && empty === undefined) ? best : oldest;
    this.#places = [...this.#places.filter((place) => place !== taken), taken];
    taken.begun = ++this.#begun;
    return taken;
  }

  /** Gives a place that was taken what any other has of its prompt: also one that runs, and one that is to have more, once it has.
   *  @returns tokens of the prompt that are in its cache when the signal is aborted, or no other has more */
  async share(place: Place, prompt: readonly number[], signal: AbortSignal): Promise<number> {
    place.begin(prompt);
    while (!signal.aborted) {
      const others = this.#places.filter((other) => other !== place && other.engine.slot !== undefined);
      if (others.length === 0) break;
      const source = mostBy(others, (other) => other.ready(prompt));
      const ready = source.ready(prompt);
      // Nobody waits for one that began later, which may wait for him.
      const sooner = others.filter(({ stop, begun }) => stop !== undefined && begun < place.begun);
      const promised = sooner.length > 0 ? mostBy(sooner, (other) => other.common(prompt)) : undefined;
      if (promised !== undefined && promised.common(prompt) > Math.max(ready, place.engine.position)) {
        await promised.change(signal);
        continue;
      }
      if (ready > place.engine.position) place.engine.copyFrom?.(source.engine as Sequence, ready);
      break;
    }
    return place.engine.position;
  }

  /** Ends all replies, and all waiting for one. */
  stop(): void {
    for (const stop of [...this.#stops]) stop.abort();
    for (const { stop } of this.#places) stop?.abort();
  }

  #free(): readonly Place[] {
    return this.#places.filter(({ stop }) => stop === undefined);
  }
}

/** The first of those with the largest number. @param places one or more */
function mostBy(places: readonly Place[], number: (place: Place) => number): Place {
  return places.reduce((best, place) => (number(place) > number(best) ? place : best));
}
