// Lists whose elements are wrong: what is told of them is what zod tells, without an issue for each.
import { expect, it } from 'vitest';
import { z } from 'zod';
import { listOf } from '../../runtime/list-of.ts';

const element = z.strictObject({ id: z.int().min(0), name: z.string().optional() });
const list = listOf(element);

it.each([
  { list: [{ id: 1 }, { id: -1 }, { id: 'x' }] },
  { list: [...Array.from({ length: 1234 }, (_, id) => ({ id })), { id: 0, other: 1 }] },
  { list: 3 },
  { list: [] },
])('the first issue is that of zod: %#', (value) => {
  const issueOf = (of: z.ZodType) => z.object({ list: of }).safeParse(value).error?.issues[0];
  expect(issueOf(listOf(element).min(1))).toEqual(issueOf(z.array(element).min(1)));
});

it('of wrong elements without number few are told, and right ones are handed on', () => {
  const wrong = Array.from({ length: 100_000 }, () => null);
  expect(list.safeParse(wrong).error!.issues.length).toBeLessThan(1000);
  const right = Array.from({ length: 1001 }, (_, id) => ({ id }));
  expect(list.parse(right)).toEqual(right);
});
