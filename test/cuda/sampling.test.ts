// The sampler on the GPU found here, over a large vocabulary, against a sort and the softmax: npm run test:cuda.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildKernel, openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { draws, wrongDraws } from '../support/plain-sample.ts';

describe.each(['stream', 'cooperative'])('qwen3-0.6b with random weights, plan %s', (plan) => {
  let engine: Engine;
  beforeAll(async () => {
    const built = await buildKernel({ model: 'qwen3-0.6b', plan });
    ({ engine } = await openEngine(built, { randomWeights: { seed: 0 }, context: 256 }));
  });
  afterAll(() => engine.close());

  test.each(draws)('draws as a sort and the softmax say: %j', async (asked) => {
    expect(await wrongDraws(engine, [1, 2, 3], 40, asked)).toEqual([]);
  });
});
