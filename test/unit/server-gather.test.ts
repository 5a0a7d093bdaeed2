// Texts that come in quick succession, as the events of a stream.
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { gather } from '../../server/gather.ts';
import type { Said } from '../../server/service.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const said = (text: string, more: Partial<Said> = {}): Said => ({
  ...{ text, logprobs: undefined, toolCalls: undefined, ...more },
});
const logprob = (token: number) => ({ token, logprob: -1, text: '', bytes: [], top: [] });

function texts() {
  const events: Said[] = [];
  return { events, gathered: gather((one) => events.push(one)) };
}

it('go out at once where nothing did just before, and together behind that', () => {
  const { events, gathered } = texts();
  gathered.take(said('a'));
  expect(events.map(({ text }) => text)).toEqual(['a']);
  for (const text of ['b', 'c', 'd']) gathered.take(said(text));
  expect(events).toHaveLength(1);
  vi.advanceTimersByTime(2);
  expect(events.map(({ text }) => text)).toEqual(['a', 'bcd']);
  vi.advanceTimersByTime(10);
  gathered.take(said('e'));
  expect(events.map(({ text }) => text)).toEqual(['a', 'bcd', 'e']);
  gathered.take(said('f'));
  vi.advanceTimersByTime(2);
  expect(events.map(({ text }) => text)).toEqual(['a', 'bcd', 'e', 'f']);
});

it('wait for nothing at the end, and are there once', () => {
  const { events, gathered } = texts();
  gathered.take(said('a'));
  gathered.take(said('b'));
  gathered.flush();
  gathered.flush();
  vi.advanceTimersByTime(10);
  expect(events.map(({ text }) => text)).toEqual(['a', 'b']);
});

it('have the log probabilities of all their tokens', () => {
  const { events, gathered } = texts();
  gathered.take(said('a'));
  gathered.take(said('b', { logprobs: [logprob(1)] }));
  gathered.take(said('c'));
  gathered.take(said('d', { logprobs: [logprob(2), logprob(3)] }));
  gathered.flush();
  expect(events[1]!.logprobs!.map(({ token }) => token)).toEqual([1, 2, 3]);
});

it('go out before a call, each part of which is an event', () => {
  const { events, gathered } = texts();
  const part = (text: string) => said('', { toolCalls: [{ index: 0, arguments: text }] });
  gathered.take(said('a'));
  gathered.take(said('b'));
  gathered.take(part('{'));
  gathered.take(part('}'));
  expect(events.map(({ text, toolCalls }) => toolCalls?.[0]?.arguments ?? text)).toEqual([
    'a',
    'b',
    '{',
    '}',
  ]);
});
