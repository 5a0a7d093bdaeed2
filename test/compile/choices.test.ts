// What tokens are chosen by on a CPU: biases, penalties and log probabilities of the bundled model against plain loops in double.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../../runtime/engine/engine.ts';
import { greedy } from '../../runtime/engine/options.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { expectMaskedChoices, expectPlainChoices, replyWithLogprobs } from '../support/choices.ts';
import { builtOf } from '../support/cpu-models.ts';

let engine: Engine;
beforeAll(async () => {
  const { library, manifest, modelDirectory } = await builtOf('qwen3-tiny');
  engine = await Engine.open(library, manifest, { context: 160, sequences: 3, threads: 2 });
  await engine.load(loadPlan(manifest, readTensors(modelDirectory)).sources);
});
afterAll(() => engine?.close());

/** More than a pass, and text that repeats. */
const prompt = Array.from({ length: 90 }, (_, i) => ((i % 9) + 1) * 37);

it.each([{ frequency: 6 }, { frequency: 3, presence: 30 }, { repetition: 1.5, presence: 1, frequency: 2 }])(
  'penalties %j are counts of the reply',
  async (penalties) => {
    // Tokens that would be said again and again: one that the prompt has, and one that it has not.
    const bias = { 37: 40, 38: 40 };
    const ids = await expectPlainChoices(engine, prompt, 24, { bias, ...penalties });
    expect(ids).not.toEqual(await expectPlainChoices(engine, prompt, 24, { bias }));
  },
);

it('a bias is added before penalties', async () => {
  const plain = await expectPlainChoices(engine, prompt, 12, {});
  const bias = { [plain[0]!]: -100, 11: 1.5, 37: 3, 74: 3 };
  const ids = await expectPlainChoices(engine, prompt, 12, { bias, repetition: 1.2, frequency: 0.2 });
  expect(ids).not.toContain(plain[0]);
});

it('none but the tokens of a mask are chosen', async () => {
  const some = Array.from({ length: 40 }, (_, i) => i * 97 + 3);
  await expectMaskedChoices(engine, prompt, [some, [31], null, [0, engine.vocab - 1], some]);
  await expectMaskedChoices(engine, [3], [some, some, some, some], {
    ...{ bias: { 3: 20, 100: 20, 4: 100 }, repetition: 1.5, presence: 1, frequency: 3 },
  });
});

it('drafts change neither tokens nor log probabilities, with biases and penalties', async () => {
  const sampling = { ...greedy(engine.vocab), temperature: 0.4, top_k: 20, frequency_penalty: 0.1, seed: 5 };
  const options = { maxTokens: 60, sampling, bias: { 37: 4, 74: 4, 11: -100 }, top: 2 };
  const plain = await replyWithLogprobs(engine, prompt, options);
  expect(await replyWithLogprobs(engine, prompt, { ...options, speculate: { tokens: 7, ngram: 1 } })).toEqual(
    plain,
  );
});

it('sequences that share passes have biases, counts and log probabilities of their own', async () => {
  engine.reset(0);
  const one = async (number: number) => {
    await using sequence = engine.open();
    const sampling = {
      ...greedy(engine.vocab),
      temperature: number,
      frequency_penalty: number,
      seed: number,
    };
    const bias = number === 1 ? { 5: 100 } : { 6: -100 };
    return await replyWithLogprobs(sequence, prompt.slice(number), {
      maxTokens: 20,
      sampling,
      bias,
      top: number,
    });
  };
  const alone = [await one(0), await one(1), await one(2)];
  expect(alone[1]!.ids).toEqual(Array(20).fill(5));
  expect(await Promise.all([0, 1, 2].map(one))).toEqual(alone);
});
