// Who replies next: first come, first served, so many at a time, and so many waiting.
import { ApiError } from './api-error.ts';

export interface QueueOptions {
  /** Most requests that wait; one more is refused at once. */
  readonly capacity: number;
  /** Longest time that one waits [ms]. */
  readonly waitMillis: number;
}

interface Waiting {
  readonly enter: () => void;
  readonly refuse: (error: ApiError) => void;
}

export class RequestQueue {
  /** Replies that run at a time. */
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
   *  @throws ApiError 503 when too many wait, or it has waited too long; 499 when the signal is aborted before its turn */
  async enter(signal: AbortSignal): Promise<() => void> {
    const { capacity, waitMillis } = this.#options;
    if (signal.aborted) throw clientLeft();
    if (this.#running < this.places) return this.#take();
    if (this.#waiting.size >= capacity) {
      throw new ApiError(503, `${capacity} requests wait already`, { code: 'queue_full' });
    }
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
      const late = `no place became free in ${waitMillis / 1000} s`;
      const timer = setTimeout(
        () => waiting.refuse(new ApiError(503, late, { code: 'queue_timeout' })),
        waitMillis,
      );
      const leave = () => waiting.refuse(clientLeft());
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
  refuse(error: ApiError): void {
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

export const clientLeft = (): ApiError => new ApiError(499, 'the client left', { code: 'client_left' });
