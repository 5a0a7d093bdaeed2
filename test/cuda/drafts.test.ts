// Drafts on the GPU found here: a reply with them is the one without, token by token, and leaves the same bits in the cache: npm run test:cuda.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildKernel, openEngine } from '../../load.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { greedy, type Speculate } from '../../runtime/engine/options.ts';
import { read } from '../support/read-reply.ts';

const prompts = 1000;
const vocab = 151936;

const samplings: readonly Partial<Sampling>[] = [
  {},
  { repetition_penalty: 1.05, presence_penalty: 0.2, frequency_penalty: 0.1 },
  { temperature: 0.3 },
  { temperature: 0.5, top_k: 3, top_p: 0.9 },
];

describe('drafts of qwen3-0.6b with random weights', () => {
  let engine: Engine;
  beforeAll(async () => {
    const built = await buildKernel({ model: 'qwen3-0.6b', plan: 'stream' });
    ({ engine } = await openEngine(built, { randomWeights: { seed: 0 }, context: 1024 }));
  });
  afterAll(() => engine.close());

  test(`change no bit of the replies to ${prompts} prompts`, async () => {
    let accepted = 0;
    let wrong = 0;
    for (let i = 0; i < prompts; i++) {
      // From 5 to 504 tokens, twice, that repeat after 3 to 9: on either side of each split of the positions.
      const prompt = Array.from(
        { length: 5 + (i % 500) },
        (_, at) => ((at % (3 + (i % 7))) * 7919 + i * 31) % vocab,
      );
      const sampling: Sampling = {
        ...greedy(vocab),
        ...{ seed: i, ...samplings[i % samplings.length] },
      };
      const say = async (speculate: Speculate) => {
        engine.reset(0);
        const reply = await read(engine.generate(prompt, { maxTokens: 60, sampling, speculate }));
        accepted += reply.accepted;
        wrong += reply.drafted - reply.accepted;
        return { ids: reply.ids, logits: await engine.score([1], 0) };
      };
      const plain = await say('off');
      const drafted = await say({ tokens: 1 + (i % 3), ngram: 1 + (i % 2) });
      expect(drafted.ids, `prompt ${i}`).toEqual(plain.ids);
      expect(Buffer.from(drafted.logits.buffer).equals(Buffer.from(plain.logits.buffer)), `cache ${i}`).toBe(
        true,
      );
    }
    expect(accepted).toBeGreaterThan(prompts);
    expect(wrong).toBeGreaterThan(prompts);
  });
});
