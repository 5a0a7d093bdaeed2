// What replies have in common is computed once, over the fake backend: it is copied from place to place, and each says what it says alone.
import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { greedy } from '../../runtime/generation-config.ts';
import { LanguageModel } from '../../runtime/model.ts';
import { Place, type PlaceEngine } from '../../runtime/places.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { fakeReply, tokens } from '../support/host-fake.ts';
import { wholeNumbers } from '../support/random.ts';
import { failureOf } from '../support/refusal.ts';
import { until } from '../support/within.ts';

const { fake, readyEngine } = await fakeEngines();

async function ready(parallel: number, device = 1) {
  const engine = await readyEngine({ device, sequences: parallel, context: 600 });
  const sequences = Array.from({ length: parallel }, () => engine.open());
  const parts = { engine, sequences, manifest: fake.manifest, defaults: greedy };
  return new LanguageModel({ ...parts, tokenizer: null, template: null });
}
const say = (llm: LanguageModel, ids: readonly number[], maxTokens = 5) =>
  llm.generate(ids, { maxTokens, seed: 0 }).result();
const prefix = Array.from({ length: 500 }, (_, i) => (i * 7) % 256);
const turn = () => new Promise((resolve) => setImmediate(resolve));

test.each([
  ['in host memory', 0],
  ['on a device', 1],
])('16 replies that begin at once with the same 500 tokens compute them once, %s', async (_, device) => {
  const llm = await ready(16, device);
  const prompts = Array.from({ length: 16 }, (_, i) => [...prefix, i, i + 1]);
  const replies = await Promise.all(prompts.map((prompt) => say(llm, prompt)));
  expect(replies.map((reply) => reply.tokens)).toEqual(prompts.map((prompt) => fakeReply(prompt, 5)));
  const computed = replies.map(({ usage }) => usage.prompt - usage.cached);
  expect(computed.toSorted((a, b) => b - a)).toEqual([502, ...Array(15).fill(2)]);
});

test('two that have more in common with each other than with the first do not wait for each other', async () => {
  const llm = await ready(3);
  const both = [...prefix.slice(0, 300), ...prefix.slice(0, 100)];
  const prompts = [prefix, [...both, 1], [...both, 2]];
  const replies = await Promise.all(prompts.map((prompt) => say(llm, prompt)));
  expect(replies.map((reply) => reply.tokens)).toEqual(prompts.map((prompt) => fakeReply(prompt, 5)));
  expect(replies.map(({ usage }) => usage.prompt - usage.cached)).toEqual([500, 101, 1]);
});

test('a second turn, and that of a fork beside it, compute their new tokens', async () => {
  const llm = await ready(2);
  const first = await say(llm, prefix);
  const past = [...prefix, ...first.tokens];
  const both = await Promise.all([9, 8].map((id) => say(llm, [...past, id])));
  // The last token of a reply is not fed, but by the first of these.
  expect(both.map(({ usage }) => usage.prompt - usage.cached)).toEqual([2, 1]);
  expect(both.map((reply) => reply.tokens)).toEqual([9, 8].map((id) => fakeReply([...past, id], 5)));
});

test('what one conversation holds is left to it while others begin alike', async () => {
  const llm = await ready(3);
  const begun = [1, 2, 3, 4, 5, 6, 7, 8];
  const held = await say(llm, begun);
  // The second has more in common than would be lost: while a place is empty, nothing is.
  expect((await say(llm, [1, 2, 50, 50])).usage.cached).toBe(2);
  expect((await say(llm, [...begun, 60])).usage.cached).toBe(8);
  const next = [...begun, ...held.tokens, 9];
  expect((await say(llm, next)).usage.cached).toBe(next.length - 2);
});

test('the place that was used longest ago goes first, and never one that replies', async () => {
  const llm = await ready(3);
  fake.allow(0);
  const running = say(llm, [1, 1, 1, 1], 9);
  await turn();
  fake.allow(Number.POSITIVE_INFINITY);
  const long = say(llm, [tokens.slow, 1], 40);
  for (const id of [10, 20, 30, 40]) await say(llm, [id, id, id, id], 1);
  expect((await running).tokens).toEqual(fakeReply([1, 1, 1, 1], 9));
  expect((await say(llm, [40, 40, 40, 40, 1], 1)).usage.cached).toBe(4);
  expect((await say(llm, [10, 10, 10, 10, 1], 1)).usage.cached).toBe(0);
  expect((await long).tokens).toEqual(fakeReply([tokens.slow, 1], 40));
});

test('one that waits for what another computes is aborted at once, and goes on by itself when that one ends early or fails', async () => {
  const llm = await ready(4);
  fake.allow(0);
  const stop = new AbortController();
  const first = llm.generate(prefix, { maxTokens: 5, signal: stop.signal }).result();
  const leave = new AbortController();
  const left = llm.generate([...prefix, 1], { signal: leave.signal }).result();
  const waits = say(llm, [...prefix, 2]);
  await turn();
  leave.abort();
  expect(await left).toMatchObject({ finish: 'abort', usage: { cached: 0, completion: 0 } });
  const before = fake.work().passes;
  fake.allow(3);
  await until(
    () => fake.work().passes === before + 3,
    () => 'three passes',
  );
  stop.abort();
  await turn();
  fake.allow(Number.POSITIVE_INFINITY);
  expect((await first).finish).toBe('abort');
  expect((await waits).tokens).toEqual(fakeReply([...prefix, 2], 5));
  expect((await waits).usage.cached).toBeGreaterThan(0);

  const beginning = prefix.toReversed();
  const failing = failureOf(say(llm, [...beginning.slice(0, 300), tokens.fail, 1]));
  const behind = [...beginning, 3];
  expect((await say(llm, behind)).tokens).toEqual(fakeReply(behind, 5));
  expect((await failing).kind).toBe('failed');
});

test('one that waits pass by pass leaves nothing at its signal, of which Node.js would warn', async () => {
  const place = new Place({} as PlaceEngine);
  const { signal } = new AbortController();
  for (let pass = 0; pass < 3; pass++) {
    const changed = place.change(signal);
    place.moved();
    await changed;
  }
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});

test('random conversations in fewer places, several at a time, each say what they say alone', async () => {
  const llm = await ready(3);
  const below = wholeNumbers(1);
  const pasts: number[][] = Array.from({ length: 8 }, () => prefix.slice(0, 20 + below(3)));
  for (let round = 0; round < 60; round++) {
    const first = below(8);
    const asked = [first, (first + 1 + below(3)) % 8, (first + 4 + below(3)) % 8];
    const prompts = asked.map((i) => [...pasts[i]!, below(256)]);
    const replies = await Promise.all(prompts.map((prompt) => say(llm, prompt, 1 + below(6))));
    replies.forEach(({ tokens: made }, i) => {
      expect(made).toEqual(fakeReply(prompts[i]!, made.length));
      // Some go on, some begin anew, and some fork.
      pasts[asked[i]!] = below(5) === 0 ? prefix.slice(0, 10) : [...prompts[i]!, ...made];
      if (below(4) === 0) pasts[below(8)] = [...pasts[asked[i]!]!];
    });
  }
});
