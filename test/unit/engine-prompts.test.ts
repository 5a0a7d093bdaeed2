// Prompts that have kernels of their own: what goes into one request, and what a stop in the middle of it leaves.

import { describe, expect, it } from 'vitest';
import type { EngineSettings } from '../../runtime/engine/options.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { fakeReply } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';

const { abortAfter, fake, readyEngine } = await fakeEngines();
/** Prompts have kernels of their own there, which make logits, or do not. */
const [withLogits, without] = [3, 5];
const ready = (settings: Partial<EngineSettings> = {}) =>
  readyEngine({ device: withLogits, context: 700, ...settings });
const ids = (count: number) => Array.from({ length: count }, (_, i) => (i * 7) % 256);

describe('a prompt with kernels of its own', () => {
  it.each([
    [4, 1, 1],
    [5, 2, 2],
    [9, 3, 3],
    [12, 1, 3],
    [13, 1, 2],
    [64, 1, 2],
    [65, 2, 2],
    [66, 2, 2],
    [69, 3, 3],
    [76, 2, 4],
    [129, 3, 3],
    [200, 5, 5],
  ])(
    'of %i tokens goes in with %i requests, or %i where its last token needs a pass for its logits',
    async (count, requests, more) => {
      for (const [device, expected] of [
        [withLogits, requests],
        [without, more],
      ] as const) {
        const engine = await ready({ device });
        const before = fake.work().requests;
        const { ids: made } = await read(engine.generate(ids(count), { maxTokens: 1 }));
        expect(made).toEqual(fakeReply(ids(count), 1));
        expect(fake.work().requests - before).toBe(expected);
      }
    },
  );

  it('is stopped in the middle of a request, whose tokens then do not count', async () => {
    const engine = await ready();
    const prompt = [9, ...ids(400)];
    const signal = abortAfter(2);
    const { ids: made, finish } = await read(engine.generate(prompt, { maxTokens: 5, signal }));
    expect({ made, finish }).toEqual({ made: [], finish: 'abort' });
    expect(engine.position % 64).toBe(0);
    expect(engine.position).toBeLessThan(401);
    const at = engine.position;
    const rest = await read(engine.generate(prompt.slice(at), { maxTokens: 3 }));
    expect(rest.ids).toEqual(fakeReply(prompt, 3));
  });

  it('is scored in requests of many tokens, with logits of each', async () => {
    const few = await ready({ device: 1 });
    const all = ids(150);
    for (const device of [withLogits, without]) {
      const many = await ready({ device });
      for (const first of [0, 70, 149]) {
        many.reset(0);
        few.reset(0);
        expect(await many.score(all, first)).toEqual(await few.score(all, first));
      }
    }
  });
});
