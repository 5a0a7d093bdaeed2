// Who is next: first come, first served, so many at a time, and so many waiting.

export interface QueueOptions {
  /** Most that wait; one more is refused at once. */
  readonly capacity: number;
  /** Longest time that one waits [ms]; null: as long as it takes. */
  readonly waitMillis: number | null;
  /** What those are told who are refused: too many wait, it took too long, the signal was aborted. */
  readonly full: () => Error;
  readonly late: () => Error;
  readonly left: () => Error;
}

interface Waiting {
  readonly enter: () => void;
  readonly refuse: (error: Error) => void;
}

export class Queue {
  /** So many at a time. */
  places = 1;
  readonly #options: QueueOptions;
  readonly #waiting = new Set<Waiting>();
  #running = 0;
  #onIdle: (() => void)[] = [];

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Resolves when it is this one's turn, with the function that gives its place to the next one.
   *  @throws as the options say, when too many wait, it has waited too long, or the signal is aborted before its turn */
  async enter(signal: AbortSignal): Promise<() => void> {
    const { capacity, waitMillis, full, late, left } = this.#options;
    if (signal.aborted) throw left();
    if (this.#running < this.places) return this.#take();
    if (this.#waiting.size >= capacity) throw full();
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        enter: () => {
          forget();
          resolve(this.#take());
        },
        refuse: (error) => {
          forget();
          reject(error);
          this.#tellIdle();
        },
      };
      const timer = waitMillis === null ? undefined : setTimeout(() => waiting.refuse(late()), waitMillis);
      const leave = () => waiting.refuse(left());
      const forget = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', leave);
        this.#waiting.delete(waiting);
      };
      signal.addEventListener('abort', leave);
      this.#waiting.add(waiting);
    });
  }

  /** Refuses all that wait. */
  refuse(error: Error): void {
    for (const waiting of [...this.#waiting]) waiting.refuse(error);
  }

  /** Resolves when nobody runs or waits. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
      this.#tellIdle();
    });
  }

  #take(): () => void {
    this.#running++;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#running--;
      const [next] = this.#waiting;
      next?.enter();
      this.#tellIdle();
    };
  }

  #tellIdle(): void {
    if (this.#running > 0 || this.#waiting.size > 0) return;
    for (const tell of this.#onIdle.splice(0)) tell();
  }
}
