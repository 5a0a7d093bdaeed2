// A word that never comes ends its launch with an error, and harms no reply after it: npm run test:cuda.
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { build, type Kernel } from '../../codegen/index.ts';
import { buildKernel, openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine.ts';
import { changedKernel } from '../support/changed-kernel.ts';
import { read } from '../support/read-reply.ts';

const prompt = Array.from({ length: 20 }, (_, i) => (i * 7919 + 13) % 4096);

const reply = async (engine: Engine) => (await read(engine.generate(prompt, { maxTokens: 24 }))).ids;

/**
 * The same kernel, which once does not publish the first word of turn 5. Turns count layers since the start of a launch, and qwen3-tiny has 6:
 * it is a word of q, k or v in the last layer of the first launch, which feeds the first 16 tokens of the prompt. Its head waits for it.
 */
function losingWord(kernel: Kernel): Kernel {
  const file = 'stream/words.cuh';
  const parts = (kernel.sources[file] ?? '').split(/(?=template <int Size>\nstruct Exchange \{)/);
  const publish = /(?<=DEVICE void publish\(int turn, [^)]*\) const \{\n)/g;
  const changes = [...(parts[1] ?? '').matchAll(publish)].length;
  if (parts.length !== 2 || changes !== 2)
    throw new Error(`${file} has another Exchange than this test knows`);
  const lose = '    if (turn == 5 && atomicExch(&lost, 1) == 0) return;\n';
  const text = `${parts[0]}__device__ int lost;\n\n${parts[1]!.replaceAll(publish, lose)}`;
  return changedKernel(kernel, 'lost-word', file, text);
}

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
