// A plan with pointwise ops of its own verifies: the library and the reference compute the same function, and no other.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { referenceGolden } from '../../cli/reference-golden.ts';
import { run } from '../../cli/run.ts';
import { ownOps, planFolder, writePlan } from '../support/plan-files.ts';
import { writeRandomModel } from '../support/random-model.ts';

const folder = planFolder();
const shape = { hidden: 64, ffn: 160, layers: 3, qHeads: 4, kvHeads: 2, headDim: 16, vocab: 300 } as const;
beforeAll(() => {
  writeRandomModel(join(folder, 'fp32'), { type: 'qwen3', dtype: 'float32', tied: false, ...shape });
  writeRandomModel(join(folder, 'bf16'), { type: 'llama', dtype: 'bfloat16', tied: true, ...shape });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function verify(model: string, plan: string, ...more: readonly string[]) {
  const { io, written } = memoryIo({});
  const args = [
    'verify',
    '--model',
    join(folder, model),
    '--target',
    'cpu',
    '--plan',
    plan,
    '--json',
    ...more,
  ];
  const code = await run(args, io);
  return { code, out: written.out, err: written.err };
}

test.each([
  ['geglu', 'fp32', {}],
  ['relu-squared', 'fp32', {}],
  ['half-residual', 'fp32', {}],
  ['geglu', 'bf16', { streamed: true }],
] as const)('%s verifies on a random model in %s', async (name, model, options) => {
  const plan = writePlan(folder, name, { ...ownOps[name], ...options });
  const { code, out, err } = await verify(model, plan);
  expect(err).not.toContain('error');
  const { ok, source } = JSON.parse(out);
  expect(source).toMatch(/^the built-in reference, with the plan's /);
  expect({ ok, code }).toEqual({ ok: true, code: 0 });
});

test('against the reference of the model as it is, the same plan fails', async () => {
  const golden = join(folder, 'golden.json');
  const { source, cases } = await referenceGolden(join(folder, 'fp32'));
  const written = cases.map(({ promptIds, greedyIds, margin, expected }) => ({
    prompt_ids: promptIds,
    greedy_ids: greedyIds,
    margin,
    last_prompt_logits: Array.from(expected[0]!.logits),
  }));
  writeFileSync(golden, JSON.stringify({ source, cases: written }));
  const { code, out } = await verify('fp32', writePlan(folder, 'geglu', ownOps.geglu), '--golden', golden);
  expect(JSON.parse(out)).toMatchObject({ ok: false });
  expect(code).toBe(1);
});
