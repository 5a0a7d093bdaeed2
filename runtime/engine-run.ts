// What an engine makes of a prompt, and what is known of it at any time: a reply may end before the engine does.
import type { GenerateResult } from './engine/options.ts';
import type { Finish, ReplyResult } from './reply.ts';

export class EngineRun {
  readonly #prompt: readonly number[];
  readonly #fullMeans: Finish;
  readonly #started: number;
  /** What the engine was given and what it made, whether or not the caller saw all of it. */
  readonly #fed: number[];
  #tokens: AsyncGenerator<readonly number[], GenerateResult> | undefined;
  #finish: Finish | undefined;
  #ended: Pick<GenerateResult, 'timings' | 'drafted' | 'accepted'> = {
    timings: { prefillMs: 0, decodeMs: 0 },
    drafted: 0,
    accepted: 0,
  };
  #firstTokenMs: number | null = null;
  /** Tokens of the prompt that were in the cache. */
  cached = 0;

  /** @param started when the reply was asked for [ms, performance.now]
   *  @param fullMeans how a run ends whose length is reached: 'context' where the context has no room for the length that was asked for */
  constructor(started: number, prompt: readonly number[], fullMeans: 'length' | 'context') {
    this.#started = started;
    this.#prompt = prompt;
    this.#fullMeans = fullMeans;
    this.#fed = [...prompt];
  }

  begin(tokens: AsyncGenerator<readonly number[], GenerateResult>): void {
    this.#tokens = tokens;
  }

  /** The next tokens of the engine; undefined when it has ended. */
  async next(): Promise<readonly number[] | undefined> {
    const current = this.#tokens!;
    this.#tokens = undefined; // should it throw, there is nothing to wait for
    const next = await current.next();
    if (next.done) {
      const { finish } = next.value;
      this.#finish ??= finish === 'length' ? this.#fullMeans : finish;
      this.#ended = next.value;
      return undefined;
    }
    this.#tokens = current;
    this.#fed.push(...next.value);
    if (this.#finish === undefined) this.#firstTokenMs ??= performance.now() - this.#started;
    return next.value;
  }

  /** Whether the engine has more to tell. */
  get goesOn(): boolean {
    return this.#tokens !== undefined;
  }

  /** The reply ends here: what comes after is not read. */
  leave(): void {
    if (this.goesOn) this.#finish ??= 'abort';
  }

  /** The tokens at positions up to `end`. */
  heldTo(end: number): readonly number[] {
    return this.#fed.slice(0, end);
  }

  /** Of a reply that has so many tokens. */
  figures(completion: number): Pick<ReplyResult, 'finish' | 'usage' | 'timings'> {
    // The engine may have made more than was read.
    const decoded = this.#fed.length - this.#prompt.length - 1;
    const { timings, drafted, accepted } = this.#ended;
    const { prefillMs: promptMs, decodeMs } = timings;
    const tokensPerSecond = decoded > 0 && decodeMs > 0 ? decoded / (decodeMs / 1000) : null;
    return {
      finish: this.#finish ?? 'abort',
      usage: { prompt: this.#prompt.length, cached: this.cached, completion, drafted, accepted },
      timings: { promptMs, decodeMs, tokensPerSecond, firstTokenMs: this.#firstTokenMs },
    };
  }
}
