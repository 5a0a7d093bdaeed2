// What the kernels of a GPU choose tokens by, on the emulator: biases, penalties and log probabilities against plain loops in double.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Kernel } from '../../codegen/index.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import prefill from '../../configs/plans/prefill.ts';
import stream from '../../configs/plans/stream.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { type Change, replacedIn } from '../support/changed-kernel.ts';
import { expectMaskedChoices, expectPlainChoices } from '../support/choices.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { openEmulated } from '../support/emulate-model.ts';
import { draws, drawsOfMany, wrongDraws } from '../support/plain-sample.ts';
import { smallGpu } from '../support/small-gpu.ts';

const folder = mkdtempSync(join(tmpdir(), 'choices-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const why = cannotEmulate();
if (why) console.warn(`skipped: ${why}`);

/** Prompts that are one pass, and some that are one launch. */
const plans = [
  { name: 'cooperative', plan: 'cooperative', length: 11 },
  { name: 'stream', plan: 'stream', length: 11 },
  {
    name: 'stream, prompts by tiles',
    plan: 'stream',
    promptPlan: prefill.with('short', {}, { from: 1 }),
    length: 18,
  },
];

describe.skipIf(why).each(plans)('plan $name', ({ length, ...asked }) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEmulated({ model: 'qwen3-micro', target: 'h100', ...asked }, 64);
    return () => engine.close();
  });
  const prompt = Array.from({ length }, (_, i) => i + 20);

  it('chooses as plain loops do', async () => {
    const plain = await expectPlainChoices(engine, prompt, 3, {});
    const bias = { [plain[0]!]: -100, 30: 0.5, 200: 2 };
    const ids = await expectPlainChoices(engine, prompt, 4, {
      bias,
      repetition: 1.5,
      presence: 0.5,
      frequency: 1,
    });
    expect(ids).not.toContain(plain[0]);
    // The one that was chosen loses its lead.
    const both = await expectPlainChoices(engine, prompt, 3, { bias: { 7: 100, 9: 100 }, frequency: 60 });
    expect(new Set(both.slice(0, 2))).toEqual(new Set([7, 9]));
  });

  it.each(draws)('samples as a sort and the softmax say: %j', async (asked) => {
    expect(await wrongDraws(engine, [5, 6, 7, ...prompt], 6, asked)).toEqual([]);
  });

  it('chooses none but the tokens of a mask', async () => {
    await expectMaskedChoices(engine, prompt, [[5, 64, 200], null, [31], [0, engine.vocab - 1]]);
    await expectMaskedChoices(
      engine,
      [3],
      Array.from({ length: 6 }, () => [9, 10, 11, 12, 13, 14]),
      {
        ...{ bias: { 9: 2, 10: -2, 15: 100 }, repetition: 1.5, frequency: 3 },
      },
    );
  });
});

/** A kernel with room for fewer candidates than the model has tokens. */
function ofFewCandidates(kernel: Kernel): Kernel {
  const filtered = 'lib/filtered.cuh';
  return replacedIn(kernel, 'few', [
    [filtered, /(?<=constexpr int kCandidates = )1024/, '256'],
    [filtered, /(?<=constexpr int kCompared = )kThreads < 256 \? kThreads : 256/, '64'],
    ...(kernel.schedule.scheme === 'stream' ? inStream : []),
  ]);
}

const inStream: readonly Change[] = [
  ['model.h', /(?<=constexpr int kListedOfRow = )1024/, '256'],
  ['model.h', /(?<=constexpr int kListedOfBlock = )64/, '32'], // so that all blocks together list fewer than a row
];

describe.skipIf(why).each([cooperative.with('eight-warps', {}, { warps: 8 }), stream])(
  'plan $name, with room for few candidates',
  (plan) => {
    let engine: Engine;
    beforeAll(async () => {
      const target = smallGpu(folder, 'h100', 4); // a block has more rows than it lists tokens
      const asked = { model: 'qwen3-micro', target, plan, change: ofFewCandidates };
      engine = await openEmulated(asked, 64);
      return () => engine.close();
    });

    it.each(drawsOfMany)('samples as a sort and the softmax say: %j', async (asked) => {
      expect(await wrongDraws(engine, [5, 6, 7, 20, 21], 6, asked)).toEqual([]);
    });
  },
);

/** The engine as a model has it whose tokenizer knows fewer tokens than its head has rows. */
const ofFewerTokens = (engine: Engine, vocab: number) => ({
  vocab,
  reset: (position: number) => engine.reset(position),
  generate: (...asked: Parameters<Engine['generate']>) => engine.generate(...asked),
  score: async (ids: readonly number[], first: number) => (await engine.score(ids, first)).subarray(0, vocab),
});

describe.skipIf(why).each([cooperative, stream])(
  'plan $name, with fewer tokens than rows of the head',
  (plan) => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await openEmulated({ model: 'qwen3-micro', target: smallGpu(folder, 'h100', 4), plan }, 64);
      return () => engine.close();
    });
    const fewer = () => ofFewerTokens(engine, 301);
    const prompt = [5, 6, 7, 20, 21];

    it.each([0, 4, 5, 6].map((at) => draws[at]!))(
      'samples as a sort and the softmax say: %j',
      async (asked) => {
        expect(await wrongDraws(fewer(), prompt, 4, asked)).toEqual([]);
      },
    );

    it('chooses none but the tokens of a mask', async () => {
      await expectMaskedChoices(fewer(), prompt, [[5, 64, 200], null, [31], [0, 300]]);
    });
  },
);
