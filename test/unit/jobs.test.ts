// How the jobs of a library are followed, over one whose jobs are written down here.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { abiStatus, type Functions, jobState } from '../../runtime/engine/bindings.ts';
import { followJobs, type Lane } from '../../runtime/engine/jobs.ts';

/** A job that has its only token at a poll, and ends at the next one; nobody is ever told so. */
function untold(tokenAt: number, eagerMs: number) {
  let polls = 0;
  const lane: Lane = {
    position: 0,
    poll: (_functions, _engine, progress, tokens) => {
      const at = ++polls;
      tokens[0] = 7;
      Object.assign(progress, {
        tokens: at === tokenAt ? 1 : 0,
        state: at > tokenAt ? jobState.done : jobState.running,
      });
      return abiStatus.ok;
    },
    stop: () => abiStatus.ok,
  };
  const channel = { engineEnd: -1, hold: () => {}, close: () => {} };
  const jobs = followJobs({} as Functions, {} as never, channel, lane, eagerMs);
  const heard: number[] = [];
  const run = () => jobs.run(() => abiStatus.ok, { lane, onPoll: (_, tokens) => void heard.push(...tokens) });
  return { jobs, run, heard, polls: () => polls };
}

const turns = async (count: number) => {
  for (let i = 0; i < count; ++i) await new Promise((resolve) => setImmediate(resolve));
};

describe('the first token of a job', () => {
  it('is looked for at every turn of the event loop, and nothing behind it', async () => {
    const { jobs, run, heard, polls } = untold(5, 1e9);
    const end = run();
    await turns(20);
    expect([heard, polls()]).toEqual([[7], 5]);
    jobs.hear();
    expect(await end).toMatchObject({ state: jobState.done });
  });

  it('is waited for where no time is given to that, and when it has passed', async () => {
    const none = untold(5, 0);
    void none.run();
    await turns(20);
    expect(none.polls()).toBe(0);
    const short = untold(Number.POSITIVE_INFINITY, 5);
    void short.run();
    await new Promise((resolve) => setTimeout(resolve, 10));
    const polls = short.polls();
    await turns(20);
    expect([polls > 1, short.polls()]).toEqual([true, polls]);
  });

  it('is waited for where other jobs run', async () => {
    const { jobs, run, polls } = untold(100, 1e9);
    const other: Lane = {
      position: 0,
      poll: (_functions, _engine, progress) => {
        Object.assign(progress, { tokens: 0, state: jobState.running });
        return abiStatus.ok;
      },
      stop: () => abiStatus.ok,
    };
    void jobs.run(() => abiStatus.ok, { lane: other });
    await turns(3);
    void run();
    await turns(20);
    expect(polls()).toBe(0);
  });
});

describe('tokens of several jobs', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  /** Jobs that have a token at each poll. */
  function running(count: number, isAwaited = false) {
    const polls: number[] = Array.from({ length: count }, () => 0);
    const lanes = polls.map(
      (_, i): Lane => ({
        position: 0,
        poll: (_functions, _engine, progress, tokens) => {
          tokens[0] = ++polls[i]!;
          Object.assign(progress, { tokens: 1, state: jobState.running });
          return abiStatus.ok;
        },
        stop: () => abiStatus.ok,
      }),
    );
    const own: Lane = { position: 0, poll: () => abiStatus.ok, stop: () => abiStatus.ok };
    const channel = { engineEnd: -1, hold: () => {}, close: () => {} };
    const functions: Partial<Functions> = { ol_close: () => {} };
    const jobs = followJobs(functions as Functions, {} as never, channel, own, 0);
    const start = (i: number) =>
      jobs.run(() => abiStatus.ok, { lane: lanes[i]!, isAwaited: isAwaited && i === 0 }).catch(() => {});
    return { jobs, start, polls };
  }

  it('are fetched together, and the more jobs there are the later again', () => {
    const few = running(4);
    const many = running(16);
    for (const { jobs, start, polls } of [few, many]) {
      for (const i of polls.keys()) void start(i);
      jobs.hear();
      expect(new Set(polls)).toEqual(new Set([1]));
      for (let at = 0; at < 3; ++at) jobs.hear();
      expect(new Set(polls)).toEqual(new Set([1]));
    }
    vi.advanceTimersByTime(2);
    expect([few.polls[0], many.polls[0]]).toEqual([2, 1]);
    vi.advanceTimersByTime(10);
    expect([few.polls[0], many.polls[0]]).toEqual([2, 2]);
    few.jobs.hear();
    expect(few.polls).toEqual([3, 3, 3, 3]);
  });

  it('are fetched at once where it is the first of its job, or is waited for', () => {
    const { jobs, start, polls } = running(3, true);
    for (const i of [0, 1]) void start(i);
    jobs.hear();
    void start(2);
    jobs.hear();
    expect(polls).toEqual([2, 1, 1]);
    jobs.hear();
    expect(polls).toEqual([3, 1, 1]);
  });

  it('are fetched at once where a job has ended', () => {
    const { jobs, start, polls } = running(3);
    for (const i of polls.keys()) void start(i);
    for (let at = 0; at < 2; ++at) jobs.hear();
    expect(polls).toEqual([1, 1, 1]);
    jobs.hear(true);
    expect(polls).toEqual([2, 2, 2]);
  });

  it('are not fetched of an engine that was closed', () => {
    const { jobs, start, polls } = running(2);
    for (const i of polls.keys()) void start(i);
    for (let at = 0; at < 2; ++at) jobs.hear();
    jobs.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('of a job that runs alone are fetched whenever there is news', () => {
    const { jobs, start, polls } = running(1);
    void start(0);
    for (let at = 0; at < 3; ++at) jobs.hear();
    expect(polls).toEqual([3]);
  });
});
