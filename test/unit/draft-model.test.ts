// An engine that drafts for another, both over a backend that stands in for a model: which passes it runs, and what becomes of replies without it.
import { expect, it, vi } from 'vitest';
import { load } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { GenerateOptions } from '../../runtime/engine/options.ts';
import { fakeEngines, greedy } from '../support/fake-engines.ts';
import { fakePenalisedReply, fakeReply } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';

const { fake, emptyEngine, readyEngine } = await fakeEngines();
const devices = [0, 1, 4];
const always = { tokens: 3, ngram: 3 } as const;

/** An engine, and one that drafts for it, whose passes are those that the fake counts. */
async function pair(device: number, context = 256) {
  const engine = await readyEngine({ device, context });
  const draft = await readyEngine({ device, context });
  engine.draftWith(draft);
  return { engine, draft };
}

async function reply(engine: Engine, prompt: readonly number[], options: GenerateOptions) {
  const before = fake.work().passes;
  const said = await read(engine.generate(prompt, options));
  return { ...said, passes: fake.work().passes - before };
}

it.each(devices)('on device %i each draft is a pass, beside those of the prompt', async (device) => {
  const { engine } = await pair(device);
  const prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const { ids, drafted, accepted, passes } = await reply(engine, prompt, {
    maxTokens: 101,
    speculate: always,
  });
  expect(ids).toEqual(fakeReply(prompt, 101));
  expect(accepted).toBe(drafted);
  expect(drafted).toBeGreaterThan(device === 4 ? 40 : 70);
  // The prompt and the first token are ten tokens: two passes of four, and the rest with the first draft.
  expect(passes).toBe(drafted + 2);
});

it.each(devices)(
  'on device %i a turn that goes on, and one that is another, keep what they have in common',
  async (device) => {
    const { engine } = await pair(device);
    const first = await reply(engine, [1, 2, 3], { maxTokens: 20, speculate: always });
    engine.reset(10);
    const known = [1, 2, 3, ...first.ids].slice(0, 10);
    const { ids, drafted, accepted, passes } = await reply(engine, [77, 78], {
      maxTokens: 30,
      speculate: always,
    });
    expect(ids).toEqual(fakeReply([...known, 77, 78], 30));
    expect(accepted).toBe(drafted);
    expect(passes).toBe(drafted);
  },
);

it.each(devices)(
  'on device %i penalties count what the reply has, and no draft that was wrong',
  async (device) => {
    const { engine } = await pair(device);
    const sampling = { ...greedy, repetition_penalty: 1.1 };
    const { ids, drafted, accepted } = await reply(engine, [5, 6], {
      maxTokens: 60,
      speculate: always,
      sampling,
    });
    expect(ids).toEqual(fakePenalisedReply([5, 6], 60));
    expect(accepted).toBe(drafted);
    expect(drafted).toBeGreaterThan(10);
  },
);

it('reads no further than its own context', async () => {
  const engine = await readyEngine({ context: 256 });
  engine.draftWith(await readyEngine({ context: 30 }));
  const { ids, drafted } = await reply(engine, [1, 2, 3], { maxTokens: 100, speculate: always });
  expect(ids).toEqual(fakeReply([1, 2, 3], 100));
  expect(drafted).toBeGreaterThan(15);
  expect(drafted).toBeLessThan(30);
});

it('is closed with the engine, and a reply goes on where it was closed before', async () => {
  const { engine, draft } = await pair(0);
  draft.close();
  const { ids, drafted } = await read(engine.generate([1, 2, 3], { maxTokens: 40, speculate: always }));
  expect(ids).toEqual(fakeReply([1, 2, 3], 40));
  expect(drafted).toBe(0);
  const other = await pair(0);
  other.engine.close();
  expect(() => other.draft.reset(0)).toThrow('closed');
});

it('that fails costs its drafts and no reply, and is told once', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const engine = await readyEngine();
  engine.draftWith(await emptyEngine());
  for (let i = 0; i < 2; i++) {
    engine.reset(0);
    const { ids, drafted } = await reply(engine, [1, 2, 3], { maxTokens: 40, speculate: always });
    expect(ids).toEqual(fakeReply([1, 2, 3], 40));
    expect(drafted).toBe(0);
  }
  expect(warned.mock.calls.map(([text]) => text)).toEqual([
    'the draft model failed, and replies go on without it: no weights are loaded',
  ]);
  warned.mockRestore();
});

it('who would never be drafted for is told before anything is compiled', async () => {
  const onProgress = vi.fn();
  const asked = { model: 'qwen3-tiny', draft: 'qwen3-tiny', onProgress };
  await expect(load({ ...asked, parallel: 4 })).rejects.toThrow(
    'a draft model drafts for one reply at a time, and parallel is 4',
  );
  await expect(load({ ...asked, embeddings: true })).rejects.toThrow('embeddings are no replies');
  expect(onProgress).not.toHaveBeenCalled();
});
