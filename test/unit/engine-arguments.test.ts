// What an engine refuses before C sees it.

import { describe, expect, it } from 'vitest';
import { InsufficientMemoryError } from '../../errors.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { fakeEngines, greedy, randomSource } from '../support/fake-engines.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { emptyEngine } = await fakeEngines();

describe('opening an engine', () => {
  it('tells a missing device from a wrong setting', async () => {
    const missing = await failureOf(emptyEngine({ device: 9 }));
    expect(missing).toMatchObject({ message: 'there is no device 9', kind: 'environment' });
    const tooLarge = await failureOf(emptyEngine({ context: 1 << 24 }));
    expect(tooLarge).toBeInstanceOf(InsufficientMemoryError);
    expect(tooLarge).toMatchObject({
      kind: 'environment',
      hint: expect.stringMatching(/^try a smaller context/),
    });
    for (const settings of [
      { context: 0 },
      { context: 1.5 },
      { context: Number.NaN },
      { context: 2 ** 40 },
      { threads: -1 },
      { device: -1 },
      { isa: 'sse' as never },
    ]) {
      expect((await failureOf(emptyEngine(settings))).kind).toBe('usage');
    }
  });

  it('refuses to reply before weights are loaded', async () => {
    const engine = await emptyEngine();
    expect((await failureOf(read(engine.generate([1], { maxTokens: 1 })))).message).toBe(
      'no weights are loaded',
    );
    expect((await failureOf(engine.score([1], 0))).message).toBe('no weights are loaded');
  });
});

describe('arguments that C would bend are refused before', () => {
  it.each<[string, (engine: Engine) => Promise<unknown>, RegExp]>([
    ['no ids', (e) => read(e.generate([], { maxTokens: 1 })), /ids is empty/],
    [
      'an id past the vocabulary',
      (e) => read(e.generate([1, 512], { maxTokens: 1 })),
      /ids\[1\] is 512, not an integer from 0 to 511/,
    ],
    ['a negative id', (e) => read(e.generate([-1], { maxTokens: 1 })), /ids\[0\]/],
    ['a fraction', (e) => read(e.generate([1.5], { maxTokens: 1 })), /ids\[0\] is 1.5/],
    ['NaN', (e) => read(e.generate([Number.NaN], { maxTokens: 1 })), /ids\[0\] is NaN/],
    ['a hole', (e) => read(e.generate(new Array<number>(1), { maxTokens: 1 })), /ids\[0\] is undefined/],
    ['text', (e) => read(e.generate('abc' as never, { maxTokens: 1 })), /ids is neither/],
    ['numbers as text', (e) => read(e.generate(['1'] as never, { maxTokens: 1 })), /ids\[0\] is "1"/],
    ['floats', (e) => read(e.generate(Float32Array.of(1) as never, { maxTokens: 1 })), /ids is neither/],
    ['maxTokens 0', (e) => read(e.generate([1], { maxTokens: 0 })), /maxTokens is 0/],
    [
      'maxTokens past 32 bits',
      (e) => read(e.generate([1], { maxTokens: 2 ** 40 })),
      /maxTokens is 1099511627776/,
    ],
    ['maxTokens missing', (e) => read(e.generate([1], {} as never)), /maxTokens is undefined/],
    [
      'a stop id past the vocabulary',
      (e) => read(e.generate([1], { maxTokens: 1, stopIds: [512] })),
      /stopIds\[0\]/,
    ],
    ['first past the end', (e) => e.score([1], 2), /first is 2/],
    ['first negative', (e) => e.score([1], -1), /first is -1/],
    ['a reset forward', async (e) => e.reset(1), /length is 1, not an integer from 0 to 0/],
    [
      'a slot that is no number',
      (e) => e.load([{ ...randomSource(0), slot: '0' as never }]),
      /sources\[0\]\.slot/,
    ],
    ['an unknown dtype', (e) => e.load([{ ...randomSource(0), dtype: 19 }]), /dtype is 19/],
    [
      'codes without scales',
      (e) => e.load([{ ...randomSource(0), dtype: 14, path: 'x' }]),
      /packing\.scales is not a path/,
    ],
    [
      'a negative offset',
      (e) => e.load([{ ...randomSource(0), dtype: 0, path: 'x', offset: -1 }]),
      /offset is -1/,
    ],
    ['no path', (e) => e.load([{ ...randomSource(0), dtype: 0 }]), /path is not a path/],
    [
      'a path that C would cut',
      (e) => e.load([{ ...randomSource(0), dtype: 0, path: 'a\0b' }]),
      /path is not a path/,
    ],
    [
      'a seed past 64 bits',
      (e) => e.load([{ ...randomSource(0), seed: 2n ** 64n }]),
      /seed is 18446744073709551616/,
    ],
    ['a negative deviation', (e) => e.load([{ ...randomSource(0), scale: -1 }]), /scale is -1/],
    ['an infinite mean', (e) => e.load([{ ...randomSource(0), mean: Infinity }]), /mean is Infinity/],
  ])('%s', async (_, call, message) => {
    const engine = await emptyEngine();
    const error = await failureOf(call(engine));
    expect(error.message).toMatch(message);
    expect(error.kind).toBe('usage');
  });

  it.each<[string, Partial<Sampling>]>([
    ['temperature', { temperature: -1 }],
    ['temperature', { temperature: Number.NaN }],
    ['temperature', { temperature: 1e39 }],
    ['top_k', { top_k: 1.5 }],
    ['top_p', { top_p: 0 }],
    ['top_p', { top_p: 1.1 }],
    ['min_p', { min_p: 2 }],
    ['repetition_penalty', { repetition_penalty: 0 }],
    ['presence_penalty', { presence_penalty: Infinity }],
    ['frequency_penalty', { frequency_penalty: NaN }],
    ['seed', { seed: -1 }],
    ['seed', { seed: 0.5 }],
    ['vocab', { vocab: 513 }],
    ['vocab', { vocab: 0 }],
  ])('sampling with a wrong %s (%o)', async (name, change) => {
    const engine = await emptyEngine();
    const reply = engine.generate([1], { maxTokens: 1, sampling: { ...greedy, ...change } });
    expect((await failureOf(read(reply))).message).toMatch(new RegExp(`^sampling\\.${name} is`));
  });

  it.each<[object, RegExp]>([
    [{ bias: { 512: 1 } }, /^a token of bias is 512, not an integer from 0 to 511/],
    [{ bias: new Map([[5, 1]]) as never }, /^bias is a list or a Map, not an object/],
    [{ bias: [1] as never }, /^bias is a list or a Map/],
    [{ bias: { x: 1 } }, /^a token of bias is "x"/],
    [{ bias: { 5: Number.NaN } }, /^bias\[5\] is NaN, not a finite number/],
    [{ bias: Object.fromEntries(Array.from({ length: 1025 }, (_, id) => [id, 1])) }, /^bias has 1025 tokens/],
    [{ logprobs: { top: 21, onLogprobs: () => {} } }, /^logprobs\.top is 21, not an integer from 0 to 20/],
    [{ logprobs: { top: 1 } }, /^logprobs\.onLogprobs is not a function/],
  ])('%j', async (change, message) => {
    const engine = await emptyEngine();
    const error = await failureOf(read(engine.generate([1], { maxTokens: 1, ...change })));
    expect(error.message).toMatch(message);
    expect(error.kind).toBe('usage');
  });
});
