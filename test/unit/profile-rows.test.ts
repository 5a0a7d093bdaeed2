// Profiles of several sequences: only passes in which all of them have a token are counted, whoever joined first.
import { describe, expect, test } from 'vitest';
import type { Pair } from '../../lab/profile/record.ts';
import { recordRows, rowPositions } from '../../lab/profile/rows.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';
import { failureOf } from '../support/refusal.ts';

const position = 5;

/** An engine whose sequences have made so many tokens [sequences] when they are first looked at, and one at each look behind that; every position has an event. */
function fakeEngine(first: readonly number[]) {
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
      missed: 0,
      events: Array.from({ length: 100 }, (_, at): TrackEvent => {
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
