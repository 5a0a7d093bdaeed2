// A plan with pointwise ops of its own verifies, the library and the reference compute the same function, and no other; its names collide with none.
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { isFreeName } from '../../codegen/emit/pointwise-c.ts';
import { generate, type Kernel, plan } from '../../codegen/index.ts';
import type { FusionPlan } from '../../codegen/plan/plan.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import unfused from '../../configs/plans/unfused.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { referenceGolden } from '../../lab/reference-golden.ts';
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

const { dims } = resolveModel(join(import.meta.dirname, '../fixtures/qwen3-micro'));
const kernelOf = (made: FusionPlan) => generate({ dims, plan: made, target: resolveTarget('cpu') });

describe('names collide with nothing in the generated code:', () => {
  const compile = ({ name, sources }: Kernel): string => {
    for (const [file, text] of Object.entries(sources)) {
      mkdirSync(dirname(join(folder, name, file)), { recursive: true });
      writeFileSync(join(folder, name, file), text);
    }
    const flags = ['-std=c++17', '-O0', '-fsyntax-only', '-I.', '-Ihost', '-DISA_NAME=plain'];
    return spawnSync('g++', [...flags, 'kernel.cpp'], { cwd: join(folder, name), encoding: 'utf8' }).stderr;
  };

  const isNameInTypeScript = (name: string): boolean => {
    try {
      return typeof new Function(`'use strict'; let ${name};`) === 'function';
    } catch {
      return false;
    }
  };

  test('ops, their helpers and values may be called as anything there is', async () => {
    const { sources } = await kernelOf(cooperative);
    const words = new Set(
      Object.values(sources).flatMap((text) => text.replaceAll(/\/\/.*/g, '').match(/[A-Za-z_]\w*/g) ?? []),
    );
    const names = [...words].filter(isFreeName);
    expect(names).toEqual(expect.arrayContaining(['attend', 'product', 'padded', 'silu', 'swiglu', 'Block']));
    const imported = ['f32', 'plan', 'stage', 'stream', 'barriers', 'pointwise', 'odd'];
    const usable = names.filter((name) => !imported.includes(name) && isNameInTypeScript(name));
    const helpers = usable.map((name) => `const ${name} = (${name}: f32): f32 => ${name} + 1;`);
    const sums = usable.map(
      (name, i) => `const sum_${i} = ${i > 0 ? `sum_${i - 1}` : 'given_up'} + ${name}(given_gate);`,
    );
    const ops = `${helpers.join('\n')}\nconst odd = pointwise((given_gate: f32, given_up: f32) => {\n${sums.join('\n')}\nreturn sum_${usable.length - 1};\n});`;
    const text = writePlan(folder, 'names', { ops, replaced: 'swiglu: odd' });
    expect(compile(await kernelOf(await resolvePlan(text)))).toBe('');
  });

  test('so may stages', async () => {
    const names =
      'attend product padded words silu scratch decode block pass ops plan swiglu add main stage norm matmul pack';
    const stages = unfused.stages.map((one, i) => ({ ...one, name: names.split(' ')[i]! }));
    expect(compile(await kernelOf(plan('stages', stages)))).toBe('');
  });
});
