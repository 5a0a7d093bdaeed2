// Requests that wait for their replies.
import { Queue } from '../runtime/queue.ts';
import { ApiError } from './api-error.ts';

export interface QueueOptions {
  /** Most requests that wait; one more is refused at once. */
  readonly capacity: number;
  /** Longest time that one waits [ms]. */
  readonly waitMillis: number;
}

/** Of requests: refused with an ApiError, 503 when too many wait or it took too long, 499 when the client left before its turn. */
export class RequestQueue extends Queue {
  constructor({ capacity, waitMillis }: QueueOptions) {
    const late = `no place became free in ${waitMillis / 1000} s`;
    super({
      ...{ capacity, waitMillis, left: clientLeft },
      full: () => new ApiError(503, `${capacity} requests wait already`, { code: 'queue_full' }),
      late: () => new ApiError(503, late, { code: 'queue_timeout' }),
    });
  }
}

export const clientLeft = (): ApiError => new ApiError(499, 'the client left', { code: 'client_left' });
