// A word that never comes ends its launch with an error, and harms no reply after it: npm run test:cuda.
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { build } from '../../codegen/index.ts';
import { buildKernel, openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { losingWord } from '../support/losing-word.ts';
import { read } from '../support/read-reply.ts';

const prompt = Array.from({ length: 20 }, (_, i) => (i * 7919 + 13) % 4096);

const reply = async (engine: Engine) => (await read(engine.generate(prompt, { maxTokens: 24 }))).ids;

describe('qwen3-tiny, plan stream', () => {
  let engine: Engine;
  let loser: Engine;
  beforeAll(async () => {
    const built = await buildKernel({ model: 'qwen3-tiny', plan: 'stream' });
    ({ engine } = await openEngine(built, {}));
    const losing = await build(losingWord(built.kernel));
    vi.stubEnv('ONELAUNCH_WAIT_MS', '300'); // read when an engine is made
    try {
      ({ engine: loser } = await openEngine({ ...built, ...losing }, {}));
    } finally {
      vi.unstubAllEnvs();
    }
  });
  afterAll(() => {
    engine.close();
    loser.close();
  });

  test('a lost word is an error that says who waits where, and the next reply is right', async () => {
    await expect(reply(loser)).rejects.toMatchObject({
      name: 'OnelaunchError',
      message: expect.stringMatching(
        /block \d+ waited too long for words of another block in stage \w+ of layer 5/,
      ),
    });
    loser.reset(0);
    const expected = await reply(engine);
    expect(expected).toHaveLength(24);
    expect(await reply(loser)).toEqual(expected);
  });
});
