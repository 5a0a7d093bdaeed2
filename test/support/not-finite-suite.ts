// What every target must say of weights that hold a NaN or an infinity: an error with the position, never a token.
// The CPU: test/compile/not-finite.test.ts. A GPU: test/cuda/not-finite.test.ts.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { type BuiltKernel, buildKernel, openEngine, openModel } from '../../load.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import type { ReplyOptions } from '../../runtime/sampling.ts';
import { poison, strange } from './poisoned.ts';
import { failureOf } from './refusal.ts';

const micro = join(packageRoot(), 'test', 'fixtures', 'qwen3-micro');
const untied = join(packageRoot(), 'test', 'fixtures', 'llama3-micro');
const tiny = join(packageRoot(), 'models', 'qwen3-tiny');
const layer = 'model.layers.1';

/** A tensor of each kind in the last layer of the fixture but the first, and one number in it. */
const kinds: readonly (readonly [string, keyof typeof strange])[] = [
  ['model.norm.weight', 'nan'],
  ['model.norm.weight', 'nan of all ones'],
  ['model.norm.weight', 'inf'],
  ['model.norm.weight', '-inf'],
  ['model.embed_tokens.weight', 'nan'],
  ...[
    'input_layernorm',
    'post_attention_layernorm',
    ...['q_proj', 'k_proj', 'v_proj', 'o_proj', 'q_norm', 'k_norm'].map((name) => `self_attn.${name}`),
    ...['gate_proj', 'up_proj', 'down_proj'].map((name) => `mlp.${name}`),
  ].flatMap((name) => [
    [`${layer}.${name}.weight`, 'nan'] as const,
    [`${layer}.${name}.weight`, 'nan of all ones'] as const,
  ]),
];

/** Ways to choose a token: at temperature 0 alone, by the sampler, and with penalties, which the largest logit alone cannot serve. */
const ways: readonly (readonly [string, ReplyOptions])[] = [
  ['greedy', { temperature: 0 }],
  ['sampled', { temperature: 0.8, topK: 0, topP: 1, seed: 1 }],
  ['top k and top p', { temperature: 0.8, topK: 20, topP: 0.9, seed: 1 }],
  ['penalised', { temperature: 0, repetitionPenalty: 1.2, presencePenalty: 1 }],
];

/** All tests of the suite for one target and plan. */
export function notFiniteSuite(target: string, plan: string): void {
  const folder = mkdtempSync(join(tmpdir(), 'not-finite-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  describe(`plan ${plan}`, () => {
    let built: BuiltKernel;
    let builtTiny: BuiltKernel;
    let builtUntied: BuiltKernel;
    const open: LanguageModel[] = [];
    beforeAll(async () => {
      built = await buildKernel({ model: micro, target, plan });
      builtTiny = await buildKernel({ model: tiny, target, plan });
      builtUntied = await buildKernel({ model: untied, target, plan });
    });
    afterEach(async () => {
      for (const model of open.splice(0)) await model.close();
    });

    /** The kernel over a poisoned copy of its weights. */
    async function poisoned(from: BuiltKernel, tensor: string, bits: number, element = 3) {
      const to = mkdtempSync(join(folder, 'model-'));
      poison(from.modelDirectory!, to, tensor, element, bits);
      const copy = await buildKernel({ model: to, target, plan }, { weights: true, tokenizer: 'optional' });
      const { engine } = await openEngine(copy, {});
      const model = await openModel(copy, engine);
      open.push(model);
      return { engine, model, directory: to };
    }
    const prompts = [[5], Array.from({ length: 21 }, (_, i) => i * 3 + 1)];

    test.each(kinds)('%s with one %s is an error that says where', async (tensor, number) => {
      const { model, engine } = await poisoned(built, tensor, strange[number]);
      for (const prompt of prompts) {
        for (const [, options] of ways) {
          const reply = model.generate(prompt, { maxTokens: 4, ...options });
          const { message, kind, hint } = await failureOf(reply.result());
          expect(message).toBe(`the logits are not finite at position ${prompt.length - 1}`);
          expect(kind).toBe('failed');
          expect(hint).toContain('NaN');
        }
        engine.reset(0);
        const { message } = await failureOf(engine.score(prompt, prompt.length - 1));
        expect(message).toBe(`the logits are not finite at position ${prompt.length - 1}`);
      }
    });

    test('a token that brings it is told at its position, and harms no reply without it', async () => {
      // The head of this model has weights of its own: nothing but token 9 reads row 9.
      const { model } = await poisoned(builtUntied, 'model.embed_tokens.weight', strange.nan, 9 * 128 + 1);
      const reply = (prompt: number[]) =>
        model.generate(prompt, { temperature: 0, maxTokens: 4, stopIds: [] }).result();
      const { tokens } = await reply([1, 2, 4]);
      expect(tokens).not.toContain(9);
      expect((await failureOf(reply([1, 2, 9, 4]))).message).toBe('the logits are not finite at position 3');
      expect((await failureOf(reply([1, 2, 9]))).message).toBe('the logits are not finite at position 2');
      // What is left of token 9 in the cache lies behind these positions.
      expect((await reply([1, 2, 4])).tokens).toEqual(tokens);
      expect((await reply([1])).tokens).toHaveLength(4);
    });

    test.each(ways)('complete and chat say so (%s)', async (_way, options) => {
      const { model } = await poisoned(builtTiny, 'model.norm.weight', strange.inf);
      const question = [{ role: 'user', content: 'What is a byte?' }];
      for (const reply of [model.complete('A byte is', options), model.chat(question, options)]) {
        expect((await failureOf(reply.result())).message).toMatch(
          /^the logits are not finite at position \d+$/,
        );
      }
    });

    test('verify says so, with exit code 1', async () => {
      const { directory } = await poisoned(built, 'model.norm.weight', strange.nan);
      const { io, written } = memoryIo();
      const code = await run(['verify', '--model', directory, '--target', target, '--plan', plan], io);
      expect(code).toBe(1);
      expect(written.err).toMatch(
        /error: the logits are not finite at position \d+\n\s*hint: the weights hold NaN/,
      );
    });

    test('the same kernel and the whole weights reply as ever, also where penalties and temperature leave the floats', async () => {
      const { engine } = await openEngine(built, {});
      const model = await openModel(built, engine);
      open.push(model);
      for (const prompt of prompts) {
        for (const options of [
          ...ways.map(([, way]) => way),
          { temperature: 1e-38, topK: 0, topP: 1, seed: 1 },
          { temperature: 0, repetitionPenalty: 3e38 },
          { temperature: 0.8, topK: 20, repetitionPenalty: 3e38, seed: 1 },
          { temperature: 0.8, topK: 20, repetitionPenalty: 1e-38, seed: 1 },
        ]) {
          const { tokens } = await model.generate(prompt, { maxTokens: 8, stopIds: [], ...options }).result();
          expect(tokens).toHaveLength(8);
        }
      }
    });
  });
}
