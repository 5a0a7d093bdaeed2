// A kernel is known by everything that changes its library, and by nothing else: what model, plan and target are called does not count.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { identityOf } from '../../codegen/emit/emit.ts';
import { opsText } from '../../codegen/emit/ops-text.ts';
import { generate } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { planOf } from '../../codegen/plan/plan.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';

const fixture = (name: string) => resolveModel(join(import.meta.dirname, '../fixtures', name)).dims;
const llama = fixture('llama3-micro');
const folder = mkdtempSync(join(tmpdir(), 'identity-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const kernelOf = async (dims: ModelDims, plan: string, target: string) =>
  generate({ dims, plan: await resolvePlan(plan), target: resolveTarget(target) });

/** Every field of the dims but the name with another legal value, those of the rotation and of the kinds included. */
const changes: Record<Exclude<keyof ModelDims, 'name'>, (dims: ModelDims) => Partial<ModelDims>> = {
  family: () => ({ family: 'qwen2' }),
  dtype: () => ({ dtype: 'fp16' }),
  weights: () => ({ weights: { layers: 'int8', embedding: 'int8', head: 'int8' } }),
  cache: () => ({ cache: 'int8' }),
  layers: (d) => ({ layers: d.layers + 1 }),
  hidden: (d) => ({ hidden: d.hidden + 32 }),
  ffn: (d) => ({ ffn: d.ffn + 32 }),
  qHeads: (d) => ({ qHeads: d.qHeads * 2 }),
  kvHeads: (d) => ({ kvHeads: d.kvHeads * 2, qHeads: d.qHeads * 2 }),
  headDim: (d) => ({ headDim: d.headDim / 2 }),
  rotated: (d) => ({ rotated: d.headDim / 2 }),
  vocab: (d) => ({ vocab: d.vocab + 1 }),
  maxPositions: (d) => ({ maxPositions: d.maxPositions * 2 }),
  normEps: () => ({ normEps: 3e-5 }),
  ropeTheta: (d) => ({ ropeTheta: d.ropeTheta * 2 }),
  ropeScaling: () => ({ ropeScaling: null }),
  qkNorm: (d) => ({ qkNorm: !d.qkNorm }),
  qkvBias: (d) => ({ qkvBias: !d.qkvBias }),
  factors: () => ({ factors: { branch: 0.5, scores: 0.25, logits: 0.125 } }),
  tiedHead: (d) => ({ tiedHead: !d.tiedHead }),
  kinds: (d) => ({ kinds: [...d.kinds, { name: 'other', window: 7, rope: false }] }),
  pattern: (d) => ({ pattern: [...d.pattern, ...d.pattern] }),
};

test.each([
  ['cooperative', 'h100'],
  ['stream', 'h100'],
  ['cooperative', 'cpu'],
])('%s for %s: every field of the dims but the name makes another kernel', async (plan, target) => {
  const hashes = new Map([[(await kernelOf(llama, plan, target)).hash, 'as it is']]);
  const scaling = llama.ropeScaling!;
  const scaled = Object.entries(scaling)
    .filter(([key]) => key !== 'type')
    .map(([key, value]) => [key, { ropeScaling: { ...scaling, [key]: Number(value) * 2 } }] as const);
  const [layer] = llama.kinds;
  const kinds = Object.entries({ name: 'other', window: 7, rope: false }).map(([key, value]) => {
    const kind = { ...layer!, [key]: value };
    return [`${key} of a kind`, { kinds: [kind], pattern: [kind.name] }] as const;
  });
  // Of formats in blocks, and of a cache with scales, there are kernels on a CPU alone.
  const fields = Object.entries(changes)
    .filter(([key]) => !['weights', 'cache'].includes(key) || target === 'cpu')
    .map(([key, change]) => [key, change(llama)] as const);
  for (const [field, change] of [...fields, ...scaled, ...kinds]) {
    const { hash } = await kernelOf({ ...llama, ...change }, plan, target);
    expect(hashes.get(hash), field).toBeUndefined();
    hashes.set(hash, field);
  }
});

test.each([
  ['cooperative', 'h100'],
  ['stream', 'h100'],
  ['unfused', 'cpu'],
])('%s for %s: names are labels, which stand in the sources and not in the hash', async (name, on) => {
  const [plan, target] = [await resolvePlan(name), resolveTarget(on)];
  const kernel = await generate({ dims: llama, plan, target });
  const labels = { dims: { ...llama, name: 'my-llama' }, target: { ...target, name: 'my-gpu' } };
  const other = await generate({ ...labels, plan: plan.with('my-plan', {}) });
  expect(other.hash).toBe(kernel.hash);
  expect(other.name).toBe('my-llama-my-gpu-my-plan');
  expect(other.sources['model.h']).toContain('gen --model my-llama --target my-gpu --plan my-plan');
  const changed = Object.keys(kernel.sources).filter((file) => other.sources[file] !== kernel.sources[file]);
  expect(changed.filter((file) => !/^(kernel\.\w+|model\.h|slots\.h)$/.test(file))).toEqual([]);
});

test('a stage of another name is another kernel: it names a function', async () => {
  const plan = await resolvePlan('unfused');
  const renamed = plan.stages.map((one) => (one.name === 'attend' ? { ...one, name: 'attention' } : one));
  const target = resolveTarget('cpu');
  const other = await generate({ dims: llama, plan: planOf({ ...plan, stages: renamed }), target });
  expect(other.hash).not.toBe((await generate({ dims: llama, plan, target })).hash);
});

test.each([
  ['cooperative', 'h100'],
  ['stream', 'h100'],
  ['cooperative', 'cpu'],
])('%s for %s: every file of the sources makes another kernel', async (plan, target) => {
  const { sources, schedule } = await kernelOf(llama, plan, target);
  const same = identityOf(sources, schedule);
  expect(identityOf({ ...sources }, schedule)).toBe(same);
  expect(Object.keys(sources)).toContain('slots.h');
  for (const name of Object.keys(sources)) {
    expect(identityOf({ ...sources, [name]: `${sources[name]} ` }, schedule), name).not.toBe(same);
  }
});

test.each([
  ['stream', 'h100'],
  ['cooperative', 'cpu'],
])(
  '%s for %s: how it is compiled follows from its hash and the flags, at every debug level',
  async (plan, target) => {
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const recipes: string[] = [];
    for (const level of ['0', '6']) {
      vi.stubEnv('ONELAUNCH_DEBUG', level);
      vi.resetModules();
      const fresh = await import('../../codegen/index.ts');
      const { recipeOf } = await import('../../codegen/build/recipe.ts');
      const input = { plan: await resolvePlan(plan), target: resolveTarget(target) };
      const kernel = await fresh.generate({ ...input, dims: { ...llama, name: `level ${level}` } });
      const recipe = recipeOf(kernel);
      recipes.push(recipe.hash);
      expect(recipeOf({ ...kernel, hash: 'another' }).hash).not.toBe(recipe.hash);
      expect(write.mock.calls.length > 0).toBe(level === '6');
    }
    vi.unstubAllEnvs();
    write.mockRestore();
    expect(recipes[1]).toBe(recipes[0]);
  },
);

test('an op is printed anew when any file that it was read from changes', async () => {
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  write('third.ts', "import type { f32 } from './dsl.ts';\nexport const half = (x: f32): f32 => x * 0.5;\n");
  write(
    'ops.ts',
    "import { pointwise, type f32 } from './dsl.ts';\nimport { half } from './third.ts';\nexport const twice = pointwise((x: f32) => half(x) + x);\n",
  );
  write('dsl.ts', 'export type f32 = number;\nexport const pointwise = <T>(op: T): T => op;\n');
  const file = join(folder, 'ops.ts');
  const before = await opsText(file, 'ops.ts');
  expect(before.join('\n')).toContain('x * 0.5f');
  expect(await opsText(file, 'ops.ts')).toEqual(before);
  write('third.ts', "import type { f32 } from './dsl.ts';\nexport const half = (x: f32): f32 => x * 0.25;\n");
  expect((await opsText(file, 'ops.ts')).join('\n')).toContain('x * 0.25f');
});

test('ops that cannot be remembered leave no file behind', async () => {
  const cache = join(folder, 'cache');
  vi.stubEnv('ONELAUNCH_CACHE', cache);
  const text = await opsText();
  const [name] = readdirSync(cache);
  rmSync(join(cache, name!));
  mkdirSync(join(cache, name!));
  expect(await opsText()).toEqual(text);
  expect(readdirSync(cache)).toEqual([name]);
  vi.unstubAllEnvs();
});
