// Every shipped variant of the stream needs each of its syncs: a proof that takes a minute.
import { expect, test } from 'vitest';
import stream, { variants } from '../../configs/plans/stream.ts';
import { unmissed } from '../support/stream-plans.ts';

test.each([stream, ...variants])(
  '$name misses each of its syncs: the text differs, both checks notice',
  (plan) => {
    expect(unmissed(plan, 3)).toEqual([]);
  },
);
