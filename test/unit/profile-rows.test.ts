// Profiles of several sequences: only passes in which all of them have a token are counted, whoever joined first.
import { describe, expect, test } from 'vitest';
import { type Pair, wholePasses } from '../../lab/profile/record.ts';
import { recordRows, rowPositions } from '../../lab/profile/rows.ts';
import { summarize } from '../../lab/profile/summary.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';
import { failureOf } from '../support/refusal.ts';

const position = 5;

/** An engine whose sequences have made so many tokens [sequences] when they are first looked at, and one at each look behind that; every position has an event. */
function fakeEngine(first: readonly number[], missed = 0) {
  const open: number[] = [];
  const asked: number[] = [];
  const engine = {
    device: 'fake',
    vocab: 16,
    reset: () => {},
    open: () => {
      const index = open.push(0) - 1;
      return {
        append: async () => {},
        reset: (at: number) => expect(at).toBe(position),
        close: async () => void open.pop(),
        async *generate(_: readonly number[], { maxTokens }: { maxTokens: number }) {
          asked.push(maxTokens);
          yield Array.from({ length: first[index]! }, () => 1);
          for (let made = first[index]!; made < maxTokens; made++) yield [1];
        },
      };
    },
    takeProfile: () => ({
      missed,
      events: Array.from({ length: missed > 0 ? position + 3 : 100 }, (_, at): TrackEvent => {
        return {
          begin: at,
          end: at + 1,
          block: 0,
          role: 'block',
          stage: 0,
          layer: 0,
          phase: 'compute',
          position: at,
        };
      }),
    }),
  };
  const pair: Pair = {
    kernel: 'k',
    plain: engine as unknown as Engine,
    profiled: engine as unknown as Engine,
  };
  return { pair, open, asked };
}

const control = { signal: new AbortController().signal, onRun: () => {} };
const record = (first: readonly number[], tokens: number) => {
  const { pair, open, asked } = fakeEngine(first);
  const work = { position, tokens, runs: 1, sequences: first.length };
  return { done: recordRows(pair, work, control), open, asked };
};

describe('passes of several sequences', () => {
  test.each([[[1, 1]], [[3, 1]], [[1, 3]], [[1, 2, 4]]])('after first looks at %j', async (first) => {
    const { done, open, asked } = record(first, 4);
    const { events, sequences, tokens } = await done;
    expect([sequences, tokens]).toEqual([first.length, 4]);
    // Those that all share, as many as are asked for. What the second look finds may have been made before the last one joined.
    const from = position + Math.max(...first) + 1;
    expect(events.map((event) => event.position)).toEqual([0, 1, 2, 3].map((i) => from + i));
    expect(open).toEqual([]);
    expect(position + Math.max(...asked)).toBeLessThan(rowPositions({ position, tokens: 4 }, first.length));
  });

  test('are fewer where one joined late, and none are an error', async () => {
    const { events } = await record([6, 1], 3).done;
    expect(events.map((event) => event.position)).toEqual([position + 7]);
    const late = await failureOf(record([7, 1], 3).done);
    expect(late).toMatchObject({
      message: '2 sequences shared no pass: each joined too late',
      hint: 'ask for more --tokens',
    });
  });
});

describe('tracks that ran full', () => {
  const event = (block: number, role: TrackEvent['role'], at: number): TrackEvent => ({
    ...{ begin: at * 10, end: at * 10 + 10, block, role, stage: 0, layer: 0, phase: 'compute', position: at },
  });
  const upTo = (block: number, role: TrackEvent['role'], end: number) =>
    Array.from({ length: end }, (_, at) => event(block, role, at));
  const events = [...upTo(0, 'first', 9), ...upTo(1, 'first', 6), event(1, 'publisher', 2)];

  test('end the passes that are counted: a mean over all would have less time in it', () => {
    const whole = wholePasses({ events, missed: 3 });
    expect(summarize(whole, ['a']).positions).toEqual([0, 1, 2, 3, 4]);
    expect(summarize(whole, ['a']).total).toBeCloseTo(0.01);
    expect(summarize(events, ['a']).total).toBeLessThan(0.009);
  });

  test('change nothing where there are none', () => {
    expect(wholePasses({ events, missed: 0 })).toBe(events);
  });

  test('before the first pass ended are told', async () => {
    const { pair } = fakeEngine([1, 1], 4);
    const failure = await failureOf(
      recordRows(pair, { position, tokens: 4, runs: 1, sequences: 2 }, control),
    );
    expect(failure.message).toBe('no pass found room: 4 events are missing');
  });
});
