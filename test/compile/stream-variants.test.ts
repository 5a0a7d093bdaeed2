// Every shipped variant of the stream, and random ones, need each of their syncs: proofs that take a minute.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import stream, { variants } from '../../configs/plans/stream.ts';
import { streamPlans, unmissed } from '../support/stream-plans.ts';
import { oneOf, thorough } from '../support/thorough.ts';

test.each([stream, ...oneOf(4, variants)])(
  '$name misses each of its syncs: the text differs, both checks notice',
  (plan) => {
    expect(unmissed(plan, 3)).toEqual([]);
  },
);

test('random plans miss each of their syncs too', () => {
  fc.assert(
    fc.property(streamPlans, fc.constantFrom(0, 3, 4), (plan, splitFrom) => {
      expect(unmissed(plan, splitFrom)).toEqual([]);
    }),
    { numRuns: thorough ? 12 : 3 },
  );
});
