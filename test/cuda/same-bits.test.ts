// The same input gives the same bits, run after run: npm run test:cuda.
// One kernel at a time, so that a failure says which: the one of several tokens, then the one of a single token.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildKernel, openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { read } from '../support/read-reply.ts';

const runs = 40;

/** Token ids without a pattern, below any vocabulary here. */
const prompt = (count: number) => Array.from({ length: count }, (_, i) => ((i * 7919 + 13) % 150000) % 32000);

describe.each(['stream', 'cooperative'])('plan %s, qwen3-0.6b with random weights', (plan) => {
  let engine: Engine;
  beforeAll(async () => {
    const built = await buildKernel({ model: 'qwen3-0.6b', plan });
    ({ engine } = await openEngine(built, { randomWeights: { seed: 0 }, context: 2048 }));
  });
  afterAll(() => engine.close());

  /** How often each outcome came. */
  async function outcomes(run: () => Promise<string>): Promise<number[]> {
    const counts = new Map<string, number>();
    for (let i = 0; i < runs; i++) {
      const outcome = await run();
      counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    }
    return [...counts.values()];
  }

  test.each([160, 960])('logits behind %i tokens', async (count) => {
    const last = async () => {
      engine.reset(0);
      const logits = await engine.score(prompt(count), count - 1);
      return createHash('sha256').update(new Uint8Array(logits.buffer)).digest('hex');
    };
    expect(await outcomes(last)).toEqual([runs]);
  });

  test.each([40, 800])('replies from position %i, behind one prompt', async (position) => {
    engine.reset(0);
    await engine.score(prompt(position), position);
    const reply = async () => {
      engine.reset(position);
      const { ids } = await read(engine.generate(prompt(1), { maxTokens: 200 }));
      return ids.join();
    };
    expect(await outcomes(reply)).toEqual([runs]);
  });
});
