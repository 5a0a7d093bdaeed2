// How the jobs of a library are followed, over one whose jobs are written down here.
import { describe, expect, it } from 'vitest';
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
    jobs.drain();
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
