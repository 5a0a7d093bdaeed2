// Drafts on the CPU: with every instruction set and format, the reply is the one without them, token by token.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, it, vi } from 'vitest';
import { pathsHere } from '../../codegen/build/cpu-paths.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import { Engine } from '../../runtime/engine/engine.ts';
import { type GenerateOptions, greedy, type Speculate } from '../../runtime/engine/options.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { type BuiltModel, builtOf, isaOf, randomModel, twoKinds } from '../support/cpu-models.ts';
import { read } from '../support/read-reply.ts';

const root = mkdtempSync(join(tmpdir(), 'speculation-'));
const pathNames = pathsHere()?.map(({ name }) => name) ?? ['plain'];
afterEach(() => void vi.unstubAllEnvs());
afterAll(() => rmSync(root, { recursive: true, force: true }));

const odd = () => randomModel(root, { dtype: 'float16' });
const cases: readonly (readonly [name: string, path: string, open: () => Promise<BuiltModel>])[] = [
  // AVX-512-BF16 computes single tokens as AVX-512 does.
  ...pathNames
    .filter((path) => path !== 'avx512' || path === pathNames.at(-1))
    .map((path) => ['fp16, and sizes that divide by nothing', path, odd] as const),
  [
    'fp32, and biases',
    pathNames.at(-1)!,
    () => randomModel(root, { type: 'qwen2', dtype: 'float32', headDim: 8 }),
  ],
  ['the bundled model', pathNames.at(-1)!, () => builtOf('qwen3-tiny')],
  ['layers with a window, and some without', pathNames.at(-1)!, () => twoKinds(root)],
  ...pathNames.map(
    (path) =>
      [
        'a KV cache in int8, and rows of 20 numbers',
        path,
        () => randomModel(root, { dtype: 'float16' }, undefined, 'int8'),
      ] as const,
  ),
  [
    'a KV cache in int8, layers with a window, and some without',
    pathNames.at(-1)!,
    () => twoKinds(root, 'int8'),
  ],
];

const samplings: readonly Partial<Sampling>[] = [
  {},
  { repetition_penalty: 1.05 },
  { presence_penalty: 0.4 },
  { frequency_penalty: 0.3 },
  { temperature: 0.3 },
  { temperature: 0.5, top_k: 3 },
  { temperature: 0.8, top_p: 0.6 },
  { temperature: 0.7, min_p: 0.3 },
  { temperature: 0.4, top_k: 20, top_p: 0.9, min_p: 0.05, repetition_penalty: 1.02, presence_penalty: 0.1 },
];

it.each(cases)('%s, on %s: a reply with drafts is the one without', async (_, path, open) => {
  vi.stubEnv('ONELAUNCH_CPU_PATHS', path);
  const { library, manifest, modelDirectory } = await open();
  const { vocab } = manifest.dims;
  let saved = 0;
  let wrong = 0;
  for (const threads of open === odd ? [1, 3] : [3]) {
    await using engine = await Engine.open(library, manifest, { context: 160, threads, isa: isaOf(path) });
    await engine.load(loadPlan(manifest, readTensors(modelDirectory)).sources);
    for (const [index, change] of samplings.entries()) {
      const sampling: Sampling = { ...greedy(vocab), ...change, seed: index };
      const prompt = Array.from({ length: 40 }, (_, i) => (((i % 9) + 1) * 37 + index) % vocab);
      const say = async (speculate: Speculate, more: Partial<GenerateOptions> = {}) => {
        engine.reset(0);
        const { timings, drafted, accepted, ...said } = await read(
          engine.generate(prompt, { maxTokens: 200, sampling, speculate, ...more }),
        );
        saved += accepted;
        wrong += drafted - accepted;
        const { position } = engine;
        // The bits of the cache: what single passes would have stored.
        engine.reset(Math.min(position, 150));
        return { ...said, position, logits: await engine.score([1], 0) };
      };
      const plain = await say('off');
      for (const tokens of [1, 3, 7, 15]) expect(await say({ tokens, ngram: 1 })).toEqual(plain);
      expect(await say('auto')).toEqual(plain);
      const stopIds = plain.ids.slice(50, 52);
      expect(await say({ tokens: 7, ngram: 1 }, { stopIds })).toEqual(await say('off', { stopIds }));
    }
  }
  expect(saved).toBeGreaterThan(100);
  expect(wrong).toBeGreaterThan(100);
});
