// One job at a time, from its first check to the end of its iteration.
import { usage } from './arguments.ts';
import type { Jobs } from './jobs.ts';

export class Turn {
  readonly #jobs: Jobs;
  readonly #what: string;
  #taken = false;
  #over = false;

  /** @param what has the turn, for people */
  constructor(jobs: Jobs, what: string) {
    this.#jobs = jobs;
    this.#what = what;
  }

  /** @throws OnelaunchError of kind usage when nobody may take it any more */
  checkOpen(): void {
    if (this.#over) throw usage(`${this.#what} is closed`, 'open another');
  }

  /** @throws OnelaunchError of kind usage when another has it, or nobody may any more */
  take(): void {
    if (this.#jobs.closed) throw usage('the engine is closed', 'load the model again');
    this.checkOpen();
    if (this.#taken) {
      throw usage(
        `${this.#what} is busy with another job`,
        'wait for it, or end its iteration, and then call again',
      );
    }
    this.#taken = true;
  }

  leave(): void {
    this.#taken = false;
  }

  /** Nobody takes it from here on. */
  end(): void {
    this.#over = true;
  }

  async during<T>(body: () => Promise<T>): Promise<T> {
    this.take();
    try {
      return await body();
    } finally {
      this.leave();
    }
  }
}
