// Where replies run: sequences of the KV cache, one reply at a time in each, and what they hold for the next.
import { OnelaunchError } from '../errors.ts';
import type { Engine } from './engine.ts';

/** What a place needs: an engine, or one of its sequences. */
export type PlaceEngine = Pick<Engine, 'position' | 'vocab' | 'generate' | 'scoreRows' | 'reset'>;

/** A place that one reply has until it leaves. */
export class Place {
  readonly engine: PlaceEngine;
  /** Ends what runs here; undefined: it is free. */
  stop: AbortController | undefined;
  /** The token of each position of its KV cache. */
  held: readonly number[] = [];

  constructor(engine: PlaceEngine) {
    this.engine = engine;
  }

  /** How many tokens of a prompt need not be computed. At least one is: a reply's first token needs the logits of the prompt's last. */
  common(prompt: readonly number[]): number {
    const most = Math.min(this.held.length, prompt.length - 1);
    let common = 0;
    while (common < most && this.held[common] === prompt[common]) common++;
    return common;
  }

  /** Forgets all but the common beginning, and says how many tokens that has. */
  keepCommon(prompt: readonly number[]): number {
    const common = this.common(prompt);
    if (common < this.engine.position) this.engine.reset(common);
    this.held = this.held.slice(0, common);
    return common;
  }

  /** Gives the place to the next. @param held what it holds now */
  leave(held: readonly number[]): void {
    this.held = held;
    this.stop = undefined;
  }
}

/** All places of a model. */
export class Places {
  /** The one that was used longest ago first. */
  #places: readonly Place[];

  constructor(engines: readonly PlaceEngine[]) {
    this.#places = engines.map((engine) => new Place(engine));
  }

  get count(): number {
    return this.#places.length;
  }

  /** @throws OnelaunchError of kind usage when each has a reply */
  checkFree(): void {
    if (this.#places.some(({ stop }) => stop === undefined)) return;
    const many = this.count > 1;
    const hint = many
      ? 'Wait for the end of one, or load the model with more `parallel`.'
      : 'Wait for its end, leave its loop or call return() of its iterator, abort its signal, or load the model a second time.';
    const what = many ? `${this.count} replies, as many as it was loaded for` : 'another reply';
    throw new OnelaunchError('usage', `the model is busy with ${what}`, { hint });
  }

  /** The free place that holds most of a prompt; of several, the one that was used longest ago. @throws as checkFree does */
  take(prompt: readonly number[], stop: AbortController): Place {
    this.checkFree();
    const free = this.#places.filter((place) => place.stop === undefined);
    const best = Math.max(...free.map((place) => place.common(prompt)));
    const taken = free.find((place) => place.common(prompt) === best)!;
    this.#places = [...this.#places.filter((place) => place !== taken), taken];
    taken.stop = stop;
    return taken;
  }

  /** Ends all replies. */
  stop(): void {
    for (const { stop } of this.#places) stop?.abort();
  }
}
