// What the kernels of a GPU choose tokens by, on the emulator: biases, penalties and log probabilities against plain loops in double.
import { beforeAll, describe, expect, it } from 'vitest';
import prefill from '../../configs/plans/prefill.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { expectMaskedChoices, expectPlainChoices } from '../support/choices.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { openEmulated } from '../support/emulate-model.ts';
import { draws, wrongDraws } from '../support/plain-sample.ts';

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
