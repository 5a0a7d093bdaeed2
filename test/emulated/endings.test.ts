// Launches that end before their time, on the emulator: at a stop token, when the host asks, and without a word that never comes. Nobody is left waiting, and what comes after them is right.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { byContext, type Kernel, stream } from '../../codegen/index.ts';
import prefill from '../../configs/plans/prefill.ts';
import base from '../../configs/plans/stream.ts';
import { openEngine } from '../../load.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { type GenerateOptions, greedy } from '../../runtime/engine/options.ts';
import { replacedIn } from '../support/changed-kernel.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { builtEmulated, type EmulatedCase } from '../support/emulate-model.ts';
import { read } from '../support/read-reply.ts';
import { smallGpu } from '../support/small-gpu.ts';

const folder = mkdtempSync(join(tmpdir(), 'endings-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A head has one block before position 8, and two from there on. */
const plan = base.with('endings', {}, stream({ tokens: 4, splits: byContext({ 1: 0, 2: 8 }) }));

async function open(asked: Partial<EmulatedCase>): Promise<Engine> {
  const target = smallGpu(folder, 'h100', 4);
  const built = await builtEmulated({ model: 'qwen3-micro', plan, target, ...asked });
  return (await openEngine(built, { context: 200, sequences: 3 })).engine;
}

/** Seeds from here on count the words by which tokens are chosen. */
const ofChoice = 1e6;

/** A reply to a prompt of so many tokens, from the first position on. */
function say(engine: Engine, length: number, options: Partial<GenerateOptions>) {
  engine.reset(0);
  const prompt = Array.from({ length }, (_, i) => (i * 37 + 5) % engine.vocab);
  return read(engine.generate(prompt, { maxTokens: 8, ...options }));
}

const why = cannotEmulate();
describe.skipIf(why)(why ? `endings (skipped: ${why})` : 'endings', () => {
  describe('when a reply is over', () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await open({ promptPlan: prefill.with('chunks', {}, { tokens: 64, from: 20 }) });
      return () => engine.close();
    });

    /** The best score decides, all draw among what all list, and the best score with noise and penalties decides. */
    const samplings = [
      {},
      { temperature: 0.8, top_k: 20 },
      { temperature: 1.5, repetition_penalty: 1.2, presence_penalty: 2 },
    ];

    test.each(samplings)('a stop token and a signal leave the tokens before them: %j', async (asked) => {
      const sampling = { ...greedy(engine.vocab), seed: 2, ...asked };
      const { ids } = await say(engine, 5, { sampling });
      const last = ids[5]!;
      const stopped = await say(engine, 5, { sampling, stopIds: [engine.vocab - 1, last] });
      expect(stopped).toMatchObject({ finish: 'stop', ids: ids.slice(0, ids.indexOf(last) + 1) });
      const signal = new AbortController();
      engine.reset(0);
      const reply = engine.generate([5, 42, 79, 116, 153], {
        maxTokens: 150,
        sampling,
        signal: signal.signal,
      });
      const { value: first } = await reply.next();
      signal.abort();
      const rest = await read(reply);
      expect(rest.finish).toBe('abort');
      const got = [...(first as number[]), ...rest.ids];
      expect(got.length).toBeLessThan(150);
      expect(got.slice(0, 8)).toEqual(ids.slice(0, got.length));
      expect((await say(engine, 5, { sampling })).ids).toEqual(ids);
    });

    test('a signal ends a prompt between the barriers of a launch', async () => {
      const { ids } = await say(engine, 190, { maxTokens: 2 });
      const signal = new AbortController();
      setTimeout(() => signal.abort(), 100);
      const { finish } = await say(engine, 190, { maxTokens: 2, signal: signal.signal });
      expect(finish).toBe('abort');
      expect(engine.position).toBeLessThan(190);
      expect((await say(engine, 190, { maxTokens: 2 })).ids).toEqual(ids);
    });
  });

  describe('without a word', () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await open({ change: losing });
      return () => engine.close();
    });

    const late = 'waited too long for words of another block';
    test.each([
      ['a pass of one token', 1, 1, {}],
      ['a pass of one token', 1, 420, {}],
      ['the second pass of a launch', 1, 1500, {}],
      ['the third pass of a launch', 1, 2300, {}],
      ['a pass of several tokens', 4, 900, {}],
      ['a pass of several tokens', 12, 3000, {}],
      ['the choice of a token', 1, ofChoice + 3, {}],
      ['the choice of the second token', 1, ofChoice + 11, {}],
      ['a draw', 1, ofChoice + 10, { temperature: 1, top_k: 20 }],
      ['the second token that is drawn', 1, ofChoice + 36, { temperature: 1, top_k: 20 }],
      ['a draw of block 0 among all', 1, ofChoice + 25, { temperature: 5, min_p: 1e-4 }],
    ])('%s fails, and no reply after it: %j tokens, word %j, %j', async (_, length, word, asked) => {
      const sampling = { ...greedy(engine.vocab), ...asked };
      const { ids } = await say(engine, length, { sampling, maxTokens: 3 });
      const lost = say(engine, length, { sampling: { ...sampling, seed: word }, maxTokens: 3 });
      await expect(lost).rejects.toThrow(late);
      expect((await say(engine, length, { sampling, maxTokens: 3 })).ids).toEqual(ids);
    });

    test('a batch fails, and no reply after it', async () => {
      const sayOf = async (i: number, seed: number) => {
        await using sequence = engine.open();
        const sampling = { ...greedy(engine.vocab), seed };
        return (await read(sequence.generate([5 + i, 6], { maxTokens: 4, sampling }))).ids;
      };
      engine.reset(0);
      const right = await Promise.all([sayOf(0, 0), sayOf(1, 0)]);
      const lost = await Promise.allSettled([sayOf(0, 2000), sayOf(1, 2000)]);
      expect(lost.map(({ status }) => status)).toContain('rejected');
      for (const [i, one] of lost.entries()) {
        if (one.status === 'rejected') expect(String(one.reason)).toContain(late);
        else expect(one.value).toEqual(right[i]);
      }
      expect(await Promise.all([sayOf(0, 0), sayOf(1, 0)])).toEqual(right);
    });
  });
});

/** A kernel that does not publish one word of a launch, the seed says which; 0: all. It waits a few thousand turns of the emulator. */
function losing(kernel: Kernel): Kernel {
  return replacedIn(kernel, 'losing', [
    ['host/times.h', /timeout_ns = 2'000'000'000/, "timeout_ns = 250'000"],
    [
      'stream/words.cuh',
      /(?=template <int Size>\nstruct Exchange \{)/,
      'inline int words_left, choices_left;\n',
    ],
    [
      'stream/words.cuh',
      /(?<=struct Exchange \{[\s\S]*DEVICE void publish\(int epoch, int at, unsigned word\) const \{\n)/,
      '    if (--(Size > 10 * kBlocks ? words_left : choices_left) == 0) return;\n',
    ],
    [
      'stream/words.cuh',
      /(?<=struct Exchange \{[\s\S]*DEVICE void publish\(int epoch, int at, unsigned a, unsigned b\) const \{\n)/,
      '    if (--(Size > 10 * kBlocks ? words_left : choices_left) == 0) return;\n',
    ],
    [
      'stream/run.cuh',
      /(?<= if \(thread == 0\) \{\n)/,
      `    const int seed = int((pass.batch ? pass.rows[0].sampling : pass.sampling).seed);
    if (blockIdx.x == 0) words_left = seed < ${ofChoice} ? seed : 0, choices_left = seed < ${ofChoice} ? 0 : seed - ${ofChoice};\n`,
    ],
  ]);
}
