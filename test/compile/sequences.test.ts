// Several sequences on the CPU, in every format: what each says and keeps in the cache is what it does alone, bit for
// bit, and within the bounds of the format what one token a pass would say.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, it, vi } from 'vitest';
import { pathsHere } from '../../codegen/build/cpu-paths.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import { Engine } from '../../runtime/engine/engine.ts';
import { greedy } from '../../runtime/engine/options.ts';
import { tolerance } from '../../runtime/verify/tolerance.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { type BuiltModel, builtOf, isaOf, randomModel, twoKinds } from '../support/cpu-models.ts';
import { read } from '../support/read-reply.ts';
import { thorough } from '../support/thorough.ts';

const root = mkdtempSync(join(tmpdir(), 'sequences-'));
const best = pathsHere()?.at(-1)?.name ?? 'plain';
afterEach(() => void vi.unstubAllEnvs());
afterAll(() => rmSync(root, { recursive: true, force: true }));

const cases: readonly (readonly [name: string, path: string, open: () => Promise<BuiltModel>])[] = [
  ...[...new Set(thorough ? ['plain', best] : ['plain'])].map(
    (path) =>
      [
        'fp16, and sizes that divide by nothing',
        path,
        () => randomModel(root, { dtype: 'float16' }),
      ] as const,
  ),
  ['the bundled model', best, () => builtOf('qwen3-tiny')],
  ['fp32, biases, unfused', best, () => randomModel(root, { type: 'qwen2', dtype: 'float32' }, 'unfused')],
  ['layers with a window, and some without', best, () => twoKinds(root)],
  ...(thorough
    ? ([
        [
          'a KV cache in int8, and rows of 20 numbers',
          best,
          () => randomModel(root, { dtype: 'float16' }, undefined, 'int8'),
        ],
        ['a KV cache in int8, layers with a window, and some without', best, () => twoKinds(root, 'int8')],
      ] as const)
    : []),
];

it.each(cases)('%s, on %s: a sequence is what it is alone', async (_, path, open) => {
  vi.stubEnv('ONELAUNCH_CPU_PATHS', path);
  const { library, manifest, modelDirectory } = await open();
  const { dims } = manifest;
  const isa = isaOf(path);
  const changes: readonly Partial<Sampling>[] = [
    {},
    { presence_penalty: 1e4 }, // no token twice, whatever the others say
    { temperature: 0.8, top_k: 20, frequency_penalty: 1 },
    { temperature: 0.7, top_p: 0.9, min_p: 0.02, repetition_penalty: 1.1 },
  ];
  const asked = Array.from({ length: 16 }, (_, i) => ({
    // Up to more than a pass holds, and some of one token.
    prompt: Array.from({ length: 1 + ((i * 29) % 140) }, (_, at) => ((at % 9) * 37 + i) % dims.vocab),
    maxTokens: 4 + i,
    sampling: { ...greedy(dims.vocab), ...changes[i % 4], seed: i },
  }));
  await using engine = await Engine.open(library, manifest, { context: 200, sequences: 16, threads: 2, isa });
  await engine.load(loadPlan(manifest, readTensors(modelDirectory)).sources);
  /** What a sequence says, and the logits behind all that it has in the cache. */
  const sayOf = async ({ prompt, ...options }: (typeof asked)[number]) => {
    await using sequence = engine.open();
    const { ids, finish } = await read(sequence.generate(prompt, options));
    const { position } = sequence;
    return { ids, finish, position, logits: await sequence.score([1], 0) };
  };
  const alone: Awaited<ReturnType<typeof sayOf>>[] = [];
  for (const one of asked) alone.push(await sayOf(one));
  // Begun from the last, so that each has another slot.
  const together = await Promise.all(asked.toReversed().map(sayOf));
  expect(together.toReversed()).toEqual(alone);
  for (const [i, { prompt }] of asked.entries()) {
    if (i % 4 !== 1) continue;
    const { ids } = alone[i]!;
    expect(new Set([...prompt, ...ids]).size).toBe(new Set(prompt).size + ids.length);
  }

  // One token a pass, as the engine's own sequence does: every greedy choice is near the best.
  const { prompt } = asked[12]!;
  const { ids } = alone[12]!;
  const rows = [await engine.score(prompt, prompt.length - 1)];
  for (const id of ids.slice(0, -1)) rows.push(await engine.score([id], 0));
  const { margin } = tolerance({
    ...{ dims, dtype: dims.dtype, decimals: null, extraRoundings: manifest.roundings },
    ...{ positions: prompt.length + ids.length, counted: rows.length * dims.vocab },
    logitRms: Math.hypot(...rows.map((row) => Math.hypot(...row))) / Math.sqrt(rows.length * dims.vocab),
  });
  for (const [at, row] of rows.entries()) expect(Math.max(...row) - row[ids[at]!]!).toBeLessThan(margin);
});
