// Who replies next.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError } from '../../server/api-error.ts';
import { RequestQueue } from '../../server/queue.ts';

const never = new AbortController().signal;
const queueOf = ({ places = 1, capacity = 3 } = {}) => {
  const queue = new RequestQueue({ capacity, waitMillis: 5000 });
  queue.places = places;
  return queue;
};

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('the queue', () => {
  it.each([1, 2])('with %i places lets in as many at once, the others in their order', async (places) => {
    const queue = queueOf({ places, capacity: 10 });
    const entered: number[] = [];
    const leaves: (() => void)[] = [];
    const all = [0, 1, 2, 3, 4].map(async (index) => {
      const leave = await queue.enter(never);
      entered.push(index);
      leaves.push(leave);
    });
    for (let left = 0; left < 5; left++) {
      await vi.advanceTimersByTimeAsync(0);
      expect(entered).toEqual([0, 1, 2, 3, 4].slice(0, Math.min(5, left + places)));
      expect(queue).toMatchObject({
        running: Math.min(places, 5 - left),
        waiting: Math.max(0, 5 - left - places),
      });
      leaves[left]!();
    }
    await Promise.all(all);
    expect(queue).toMatchObject({ running: 0, waiting: 0 });
  });

  it('frees a place once, however often it is left', async () => {
    const queue = queueOf();
    const leave = await queue.enter(never);
    leave();
    await queue.enter(never);
    leave();
    expect(queue.running).toBe(1);
  });

  it('refuses one more than it holds at once, and takes others later', async () => {
    const queue = queueOf({ capacity: 1 });
    const leave = await queue.enter(never);
    const second = queue.enter(never);
    await expect(queue.enter(never)).rejects.toMatchObject({ status: 503, code: 'queue_full' });
    leave();
    await second;
    expect(queue).toMatchObject({ running: 1, waiting: 0 });
  });

  it('forgets those whose client leaves, and those behind come up', async () => {
    const queue = queueOf();
    const leave = await queue.enter(never);
    const gone = new AbortController();
    const second = queue.enter(gone.signal);
    const third = queue.enter(never);
    gone.abort();
    await expect(second).rejects.toMatchObject({ status: 499 });
    expect(queue.waiting).toBe(1);
    leave();
    (await third)();
    await expect(queue.enter(AbortSignal.abort())).rejects.toMatchObject({ status: 499 });
    expect(queue).toMatchObject({ running: 0, waiting: 0 });
  });

  it('ends a wait that takes too long', async () => {
    const queue = queueOf();
    await queue.enter(never);
    const late = queue.enter(never);
    const told = expect(late).rejects.toMatchObject({ status: 503, code: 'queue_timeout' });
    await vi.advanceTimersByTimeAsync(4999);
    expect(queue.waiting).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    await told;
    expect(queue.waiting).toBe(0);
  });

  it('is idle when the last one has left or was refused', async () => {
    const queue = queueOf();
    const leave = await queue.enter(never);
    const waiting = queue.enter(never);
    let idle = false;
    const told = queue.idle().then(() => {
      idle = true;
    });
    leave();
    const leaveSecond = await waiting;
    const third = queue.enter(never);
    queue.refuse(new ApiError(503, 'no more'));
    await expect(third).rejects.toThrow('no more');
    await vi.advanceTimersByTimeAsync(0);
    expect(idle).toBe(false);
    leaveSecond();
    await told;
  });
});
